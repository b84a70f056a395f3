// A page about the API, made of the document that the server gives of itself.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Text with `code` in it, and empty lines between paragraphs. */
function prose(text = "") {
  return text.split(/\n\s*\n/).filter(Boolean).map((paragraph) => {
    const parts = paragraph.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part));
    return element("p", {}, ...parts);
  });
}

function nameOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.oneOf) return schema.oneOf.map(nameOf).filter((name) => name !== "null").join(" or ");
  const types = [].concat(schema.type ?? "anything").filter((type) => type !== "null");
  return types[0] === "array" ? `list of ${nameOf(schema.items) || "values"}` : types.join(" or ");
}

function fields(list) {
  return element("dl", {}, ...list.flatMap(([name, kind, about]) => [element("dt", {}, name), element("dd", {}, kind ? `${kind}. ` : "", about ?? "")]));
}

function schema(name, it) {
  const required = it.required ?? [];
  const rows = Object.entries(it.properties ?? {}).map(([field, of]) => [field, `${nameOf(of)}${required.includes(field) ? "" : ", may be left out"}`, of.description]);
  const values = it.enum ? [["one of", "", it.enum.join(", ")]] : it.oneOf ? it.oneOf.map((one) => [one.enum ? one.enum.join(", ") : nameOf(one), "", one.description]) : [];
  return element("section", { class: "operation", id: `schema-${name}` }, element("h3", {}, name), ...prose(it.description), fields([...rows, ...values]));
}

function operation(path, method, it) {
  const body = it.requestBody?.content;
  const kinds = body ? Object.entries(body).map(([kind, of]) => `${kind}: ${nameOf(of.schema)}`) : [];
  const answers = Object.entries(it.responses).map(([status, of]) => [status, Object.entries(of.content ?? {}).map(([, one]) => nameOf(one.schema)).join(", "), of.description]);
  return element("section", { class: "operation", id: it.operationId },
    element("h3", {}, element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path)),
    ...prose([it.summary, it.description].filter(Boolean).join("\n\n")),
    it.parameters ? fields(it.parameters.map((one) => [one.name, `in the ${one.in}${one.required ? "" : ", may be left out"}`, one.description])) : null,
    kinds.length ? element("p", {}, "Body: ", kinds.join("; ")) : null,
    element("details", {}, element("summary", {}, "Answers"), fields(answers)));
}

const response = await fetch("/v1/openapi.json");
const document_ = await response.json();
document.getElementById("about").before(...prose(document_.info.description));
const place = document.getElementById("operations");
for (const tag of document_.tags) {
  const list = Object.entries(document_.paths).flatMap(([path, item]) => Object.entries(item).filter(([, it]) => it.tags?.includes(tag.name)).map(([method, it]) => operation(path, method, it)));
  place.append(element("section", { class: "panel" }, element("h2", {}, tag.name), ...prose(tag.description), ...list));
}
place.append(element("section", { class: "panel" }, element("h2", {}, "What is sent and answered"), ...Object.entries(document_.components.schemas).map(([name, it]) => schema(name, it))));
place.style.display = "grid";
place.style.gap = "16px";
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
