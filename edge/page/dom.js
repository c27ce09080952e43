// Elements, made one by one: text is always text.
const SVG = "http://www.w3.org/2000/svg";

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "hidden" || name === "disabled") made[name] = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    made.append(child instanceof Node ? child : String(child));
  }
  return made;
}

/** An element of HTML. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An element of SVG. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Puts these in place of everything inside. */
export function put(parent, ...children) {
  parent.replaceChildren();
  return fill(parent, null, children);
}

/** A term with what it means, where there is something. */
export function term(name, ...value) {
  const shown = value.flat(Infinity).filter((part) => part !== undefined && part !== null && part !== "");
  return shown.length === 0 ? [] : h("div", null, h("dt", null, name), h("dd", null, shown));
}

/** A place for a picture that is drawn for the room that there is, and anew when that changes. */
export function fitted(picture) {
  const place = h("div", { class: "drawn" });
  let before = 0;
  new ResizeObserver(() => {
    const room = Math.floor(place.clientWidth);
    if (room > 0 && Math.abs(room - before) > 4) {
      before = room;
      place.replaceChildren(picture(room));
    }
  }).observe(place);
  return place;
}
