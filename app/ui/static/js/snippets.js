// The request as code to copy.

import { h } from "./dom.js";

const TABS = { curl, "OpenAI SDK": openai, LangChain: langchain };

/** Tabs of code; `show(request)` fills them. A request is {address, texts, model, asked, keyed}. */
export function makeSnippets() {
  const id = "snippet";
  const code = h("pre", { id, role: "tabpanel", tabindex: 0, "aria-labelledby": "tab-0" });
  const copy = h("button", { type: "button", click: copied }, "Copy");
  let open = "curl";
  let request = null;
  const tabs = Object.keys(TABS).map((name, i) =>
    h("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": id, click: () => pick(name), keydown: moved }, name),
  );
  const node = h(
    "section",
    { class: "snippets", "aria-label": "The request as code" },
    h("div", { class: "snippets-head" }, h("div", { role: "tablist", "aria-label": "Client" }, tabs), copy),
    code,
  );

  function pick(name) {
    open = name;
    draw();
  }
  function moved(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
    next.focus();
    pick(next.textContent);
  }
  function draw() {
    tabs.forEach((tab) => {
      const chosen = tab.textContent === open;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen) code.setAttribute("aria-labelledby", tab.id);
    });
    if (request) code.textContent = TABS[open](request);
  }
  async function copied() {
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected: copy it";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  }
  draw();
  return {
    node,
    show(next) {
      request = next;
      draw();
    },
  };
}

const FEW = 2; // texts that share a line

const quoted = (text) => JSON.stringify(text);

/** All of them, so that what is copied is the request: on one line, or a line each at an indent. */
function inputs(texts, indent) {
  const words = texts.map(quoted);
  return texts.length > FEW ? `[\n${words.map((word) => `${indent}  ${word},\n`).join("").replace(/,\n$/, "\n")}${indent}]` : `[${words.join(", ")}]`;
}

function curl({ address, texts, asked, keyed }) {
  const body = `{"inputs": ${inputs(texts, "  ")}${pairs(asked, (name, value) => `, ${quoted(name)}: ${quoted(value)}`)}}`;
  const lines = [`curl ${address}/embed`, `-H 'Content-Type: application/json'`];
  if (keyed) lines.push(`-H "Authorization: Bearer $STRATA_KEY"`);
  lines.push(`-d '${body.replaceAll("'", `'\\''`)}'`);
  return lines.join(" \\\n  ");
}

function openai({ address, texts, model, asked, keyed }) {
  const { dim, ...rest } = asked;
  const extra = pairs(rest, (name, value) => `${quoted(name)}: ${quoted(value)}, `).replace(/, $/, "");
  return [
    `${keyed ? "import os\n\n" : ""}from openai import OpenAI`,
    "",
    `client = OpenAI(base_url="${address}/v1", api_key=${keyed ? 'os.environ["STRATA_KEY"]' : '"none"'})`,
    "answer = client.embeddings.create(",
    `    model=${quoted(model)},`,
    `    input=${inputs(texts, "    ")},`,
    ...(dim ? [`    dimensions=${dim},`] : []),
    ...(extra ? [`    extra_body={${extra}},`] : []),
    ")",
    "vectors = [item.embedding for item in answer.data]",
  ].join("\n");
}

function langchain({ address, texts, asked, keyed }) {
  const query = new URLSearchParams(asked).toString();
  return [
    `${keyed ? "import os\n\n" : ""}from langchain_huggingface import HuggingFaceEndpointEmbeddings`,
    "",
    "embeddings = HuggingFaceEndpointEmbeddings(",
    `    model="${address}/embed${query ? `?${query}` : ""}",`,
    ...(keyed ? ["    huggingfacehub_api_token=os.environ[\"STRATA_KEY\"],"] : []),
    ")",
    `vectors = embeddings.embed_documents(${inputs(texts, "")})`,
  ].join("\n");
}

const pairs = (asked, write) => Object.entries(asked).map(([name, value]) => write(name, value)).join("");
