// The passages and judged queries that come with this page, and their vectors, made by the server at first use.

import * as api from "./api.js";
import { cut, ndcg10, ranking } from "./vectors.js";

const STORE = "strata.library"; // of this tab
const AT_ONCE = 26; // passages of a request: others want to be served, too

export async function openLibrary(info) {
  const { documents, queries } = await api.file("data/library.json");
  const place = new Map(documents.map(({ id }, i) => [id, i]));
  for (const query of queries) {
    query.grades = new Map(Object.entries(query.relevant).map(([id, grade]) => [place.get(id), grade]));
  }
  const full = { layers: info.layers, dim: info.full_dim };
  const name = `${info.model_id}@${info.model_sha}/${documents.length}`;
  const cuts = new Map(); // documents at a dim
  const asked = new Map(); // a query's text -> layers -> its vector at full dim
  const curve = new Map(); // "layers/dim" -> mean nDCG@10
  let vectors = stored(name, documents.length, full.dim);

  return {
    documents,
    queries,
    get indexed() {
      return vectors !== null;
    },

    /** Embed the passages at full depth, as documents. `progress(done)` is told how many are done. */
    async index(progress) {
      const found = [];
      while (found.length < documents.length) {
        const part = documents.slice(found.length, found.length + AT_ONCE);
        const answer = await api.embed(
          part.map(({ title, text }) => `${title}. ${text}`),
          { ...full, input_type: "document" },
        );
        found.push(...answer.vectors);
        progress(found.length);
      }
      vectors = found;
      store(name, found);
    },

    /** Vectors of queries at a depth, at full dim; each is asked for once. */
    async embed(texts, layers) {
      const missing = texts.filter((text) => !asked.get(text)?.has(layers));
      let answer = null;
      if (missing.length) {
        answer = await api.embed(missing, { layers, dim: full.dim, input_type: "query" });
        missing.forEach((text, i) => {
          if (!asked.has(text)) asked.set(text, new Map());
          asked.get(text).set(layers, answer.vectors[i]);
        });
      }
      return { vectors: texts.map((text) => asked.get(text).get(layers)), answer };
    },

    /** The passages in order for a query's vector, at a dim. */
    rank(vector, dim) {
      if (!cuts.has(dim)) cuts.set(dim, vectors.map((vector) => cut(vector, dim)));
      return ranking(cut(vector, dim), cuts.get(dim));
    },

    /** Mean nDCG@10 of the judged queries; null where they were not embedded at this depth yet. */
    quality(layers, dim) {
      const at = `${layers}/${dim}`;
      if (!curve.has(at)) {
        if (!queries.every(({ text }) => asked.get(text)?.has(layers))) return null;
        const each = queries.map(({ text, grades }) => ndcg10(this.rank(asked.get(text).get(layers), dim).order, grades));
        curve.set(at, each.reduce((a, b) => a + b) / each.length);
      }
      return curve.get(at);
    },
  };
}

function stored(name, count, dim) {
  try {
    const kept = JSON.parse(sessionStorage.getItem(STORE));
    if (kept?.name !== name) return null;
    const flat = new Float32Array(Uint8Array.from(atob(kept.vectors), (c) => c.charCodeAt(0)).buffer);
    return Array.from({ length: count }, (_, i) => flat.subarray(i * dim, (i + 1) * dim));
  } catch {
    return null;
  }
}

function store(name, vectors) {
  const bytes = vectors.map((vector) => new Uint8Array(new Float32Array(vector).buffer));
  let text = "";
  for (const part of bytes) text += String.fromCharCode(...part);
  try {
    sessionStorage.setItem(STORE, JSON.stringify({ name, vectors: btoa(text) }));
  } catch {
    // No room: they are made again when the page is loaded again.
  }
}
