// What is served and by what, as a list; numbers as the server told them.

import { h, plural } from "./dom.js";

export function facts(info) {
  const { engine, provenance } = info;
  const rows = [
    ["model", `${info.model_id}, revision ${info.model_sha}`],
    ["family", `${info.family}, ${plural(info.layers, "layer")}, ${info.full_dim} dims, at most ${info.max_input_length} tokens`],
    ["exits", info.exits.join(", ")],
    ["dims", info.dims.join(", ")],
    ["source", `${provenance.source} (${provenance.licence}), made with ${provenance.made_with}`],
    ["runs on", `${engine.backend}, ${engine.dtype}, ${engine.device}: ${plural(engine.workers, "worker")} of ${plural(engine.threads, "thread")}`],
    ["why", engine.reason],
    ["limits", `${info.max_concurrent_requests} requests in flight, ${info.max_client_batch_size} texts in one, ${info.max_batch_tokens} tokens in a batch`],
    ["tiers", info.tiers.map(tier).join(" · ")],
  ];
  return h("dl", { class: "facts" }, rows.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
}

function tier({ name, deadline_ms, min_quality, min_layers }) {
  const terms = [
    deadline_ms && `${deadline_ms} ms`,
    min_quality && `at least ${(min_quality * 100).toFixed(0)} %`,
    min_layers && `at least ${plural(min_layers, "layer")}`,
  ].filter(Boolean);
  return terms.length ? `${name} (${terms.join(", ")})` : name;
}
