// Arithmetic on vectors: the first numbers of a vector are a vector, too.

/** The first `dim` numbers, scaled to length 1. */
export function cut(vector, dim) {
  const part = vector.slice(0, dim);
  let sum = 0;
  for (const value of part) sum += value * value;
  const scale = 1 / (Math.sqrt(sum) || 1);
  return part.map((value) => value * scale);
}

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** Cosines of each with each. */
export const pairwise = (vectors) => vectors.map((a) => vectors.map((b) => dot(a, b)));

/** Positions of the documents, the most similar first. */
export function ranking(query, documents) {
  const scores = documents.map((document) => dot(query, document));
  const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  return { order, scores };
}

/** nDCG at ten: gains of 2^grade - 1, halved by the logarithm of the place. `grades` by position of the document. */
export function ndcg10(order, grades) {
  const gain = (grade, place) => (2 ** grade - 1) / Math.log2(place + 2);
  const got = order.slice(0, 10).reduce((sum, i, place) => sum + gain(grades.get(i) ?? 0, place), 0);
  const ideal = [...grades.values()].sort((a, b) => b - a).slice(0, 10);
  return got / ideal.reduce((sum, grade, place) => sum + gain(grade, place), 0);
}
