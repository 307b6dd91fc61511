// What is asked of the server. The key is kept for this tab alone.

const page = document.documentElement.dataset;
const KEY = "strata.key";

/** Where operations are asked, and where texts are embedded: another port, where operations have one of their own. */
export const operations = page.root;
export const base = page.apiPort ? `${location.protocol}//${location.hostname}:${page.apiPort}${page.root}` : page.root;
export const address = page.apiPort ? base : location.origin + page.root;

/** The key that is kept; one that cannot be sent is forgotten. */
export function key() {
  const kept = sessionStorage.getItem(KEY);
  if (kept === null || unsendable(kept) === null) return kept;
  sessionStorage.removeItem(KEY);
  return null;
}

export const keep = (given) => sessionStorage.setItem(KEY, given);

/** The first character of a key that no header can carry, or null. */
export const unsendable = (given) => given.match(/[^\t\x20-\x7e\x80-\xff]/u)?.[0] ?? null;

/** The server did not do what was asked; `status` 0: it did not answer. */
export class Refused extends Error {
  constructor(status, message, after) {
    super(message);
    this.status = status;
    this.after = after; // seconds until it is worth asking again, where it said so
  }
}

let heard = () => {};

/** Call `listener({found, serving, model})` after each request: whether a server answered, whether it serves, and what. */
export const onAnswer = (listener) => (heard = listener);

async function ask(url, options = {}) {
  const headers = new Headers(options.headers);
  if (key()) headers.set("Authorization", `Bearer ${key()}`);
  let answer;
  try {
    answer = await fetch(url, { ...options, headers });
  } catch {
    heard({ found: false });
    throw new Refused(0, "The server does not answer.");
  }
  const told = answer.ok ? {} : await answer.json().catch(() => ({}));
  heard({ found: true, serving: told.error_type !== "Unhealthy", model: answer.headers.get("X-Strata-Model") });
  if (answer.ok) return answer;
  const after = Number(answer.headers.get("Retry-After")) || null;
  throw new Refused(answer.status, told.error ?? `HTTP ${answer.status}`, after);
}

const json = async (url) => (await ask(url)).json();

export const info = () => json(`${operations}/info`);
export const now = (seconds) => json(`${operations}/now?seconds=${seconds}`);
export const plan = (parameters) => json(`${base}/plan?${new URLSearchParams(parameters)}`);
export const file = (name) => json(`${page.root}/ui/${name}`);

/** Embed texts. The vectors, what was run, and where the time went, in milliseconds. */
export async function embed(inputs, asked) {
  const began = performance.now();
  const answer = await ask(`${base}/embed`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/octet-stream" },
    body: JSON.stringify({ inputs, ...asked }),
  });
  const flat = new Float32Array(await answer.arrayBuffer());
  const roundTrip = performance.now() - began;
  const header = (name) => answer.headers.get(name);
  const dim = Number(header("X-Strata-Dim"));
  const stages = Object.fromEntries(
    [...(header("Server-Timing") ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, dur]) => [name, Number(dur)]),
  );
  return {
    vectors: Array.from({ length: inputs.length }, (_, i) => flat.subarray(i * dim, (i + 1) * dim)),
    layers: Number(header("X-Strata-Layers")),
    dim,
    tokens: Number(header("X-Compute-Tokens")),
    cut: Number(header("X-Strata-Truncated") ?? 0),
    tier: header("X-Strata-Tier"),
    model: header("X-Strata-Model"),
    quality: header("X-Strata-Quality") && Number(header("X-Strata-Quality")),
    slack: header("X-Strata-Slack-Ms") && Number(header("X-Strata-Slack-Ms")),
    predicted: Number(header("X-Strata-Predicted-Ms")),
    stages,
    roundTrip,
  };
}
