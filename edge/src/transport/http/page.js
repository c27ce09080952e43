const page = document.getElementById("page");
function add(parent, tag, text) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}
function row(table, name, schema) {
  const line = add(table, "tr");
  add(add(line, "td"), "code", name);
  const kind = schema.enum ? schema.enum.filter((word) => word !== null).join(" | ") : [].concat(schema.type || "").filter((word) => word !== "null").join(" | ");
  add(line, "td", kind);
  add(line, "td", schema.description || "");
}
function tryOut(into, method, path) {
  const area = method === "POST" ? add(into, "textarea") : null;
  if (area) area.value = '{"variant": "chr17-43045705-T-A"}';
  const button = add(into, "button", "Try");
  const shown = add(into, "pre");
  shown.hidden = true;
  button.addEventListener("click", async () => {
    shown.hidden = false;
    shown.textContent = "…";
    try {
      const options = area ? { method, body: area.value, headers: { "content-type": "application/json" } } : { method };
      const response = await fetch(path, options);
      const text = await response.text();
      let pretty = text;
      try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch {}
      shown.textContent = response.status + "\n" + pretty;
    } catch (error) {
      shown.textContent = String(error);
    }
  });
}
async function show() {
  const described = await (await fetch("/openapi.json")).json();
  add(page, "h1", described.info.title + " " + described.info.version);
  add(page, "p", described.info.description);
  for (const [path, methods] of Object.entries(described.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const part = add(page, "details");
      const head = add(part, "summary");
      add(head, "b", method.toUpperCase());
      add(head, "code", path);
      add(head, "span", " " + operation.summary);
      add(part, "p", operation.description);
      tryOut(part, method.toUpperCase(), path);
    }
  }
  for (const [name, schema] of Object.entries(described.components.schemas)) {
    add(page, "h2", name);
    if (schema.description) add(page, "p", schema.description);
    const table = add(page, "table");
    for (const [field, inner] of Object.entries(schema.properties || {})) row(table, field, inner);
  }
}
show().catch((error) => add(page, "p", String(error)));
