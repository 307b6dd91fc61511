// Two ranked lists, and lines that join what is in both.

import { h, s } from "./dom.js";

const SHOWN = 10;

/** `draw(left, right, documents, grades)`: orders are positions of documents, the best first. */
export function makeLists() {
  const heads = [h("h2", {}), h("h2", {})];
  const lists = heads.map((head, i) => {
    head.id = `list-${i}`;
    return h("ol", { class: "ranked", "aria-labelledby": head.id });
  });
  const lines = s("svg", { class: "joins", "aria-hidden": "true", preserveAspectRatio: "none" });
  const node = h("div", { class: "lists" }, heads[0], h("span", {}), heads[1], lists[0], lines, lists[1]);
  let drawn = null;

  function draw(left, right, documents, grades) {
    drawn = [left, right];
    heads[0].textContent = left.title;
    heads[1].textContent = right.title;
    lists[0].replaceChildren(...left.order.slice(0, SHOWN).map((i, place) => item(i, place, right)));
    lists[1].replaceChildren(...right.order.slice(0, SHOWN).map((i, place) => item(i, place, left)));
    join();

    function item(i, place, other) {
      const there = other.order.indexOf(i);
      const grade = grades?.get(i);
      const judged = grade ? h("span", { class: "judged" }, grade === 2 ? "answers" : "helps") : null;
      const moved = there === place ? "same place" : `place ${there + 1} at ${other.short}`;
      return h(
        "li",
        { class: there >= SHOWN ? "alone" : "" },
        h("span", { class: "place" }, place + 1),
        h("details", { class: "what" }, h("summary", {}, documents[i].title, " ", judged), h("p", {}, documents[i].text)),
        h("span", { class: "small" }, moved),
      );
    }
  }

  /** Lines from the middle of an item on the left to that of the same document on the right. */
  function join() {
    if (!drawn) return;
    const [left, right] = drawn.map(({ order }) => order.slice(0, SHOWN));
    const height = lists[0].offsetHeight || 1;
    const top = lists[0].offsetTop;
    lines.setAttribute("viewBox", `0 0 100 ${height}`);
    lines.style.setProperty("height", `${height}px`);
    const middle = (list, place) => list.children[place].offsetTop - top + list.children[place].offsetHeight / 2;
    lines.replaceChildren(
      ...left.flatMap((i, place) => {
        const there = right.indexOf(i);
        if (there < 0) return [];
        const [from, to] = [middle(lists[0], place), middle(lists[1], there)];
        const kind = there === place ? "still" : there < place ? "fell" : "rose";
        return s("path", { class: kind, d: `M0 ${from} C40 ${from} 60 ${to} 100 ${to}`, "vector-effect": "non-scaling-stroke" });
      }),
    );
  }

  new ResizeObserver(join).observe(lists[0]);
  node.addEventListener("toggle", join, true); // a text opens or closes: it does not bubble
  return { node, draw };
}
