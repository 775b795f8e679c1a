// A field for each argument of a model, made from its form and its JSON schema.
// A field has `element`, `value()` (undefined is left out; throws an Error for the person) and `mark(message)`.

import { shown } from "./answers.js?v=";
import { bytes, el } from "./dom.js?v=";

const MANY = 4096; // elements from which on a tensor is not shown as text

export function fieldOf(argument) {
  const make = { image: fileField, bytes: fileField, tensor: tensorField }[argument.form];
  if (make) return make(argument);
  const schema = plain(argument.schema ?? {}, argument.schema?.$defs ?? {});
  const simple = schema.enum || ["string", "integer", "number", "boolean"].includes(schema.type);
  return argument.form === "json" && !simple ? jsonField(argument) : valueField({ ...argument, schema });
}

// A schema without the wrapping of "or null" and of a name for it.
function plain(schema, definitions) {
  if (schema.$ref) return plain({ ...definitions[schema.$ref.split("/").pop()] }, definitions);
  const choices = (schema.anyOf ?? []).filter((choice) => choice.type !== "null");
  return choices.length === 1 ? plain(choices[0], definitions) : schema;
}

function frame(argument, hint, ...content) {
  const id = `field-${argument.name}`;
  const problem = el("p", { className: "problem", id: `${id}-problem`, hidden: true });
  const note = [hint, argument.required ? "" : "optional"].filter(Boolean).join(" · ");
  const element = el("div", { className: "field" },
    el("div", { className: "field-head" },
      el("label", { htmlFor: id }, argument.name),
      el("span", { className: "hint" }, note)),
    argument.description ? el("p", { className: "about" }, argument.description) : null,
    ...content, problem);
  return {
    element,
    mark(message) {
      problem.textContent = message ?? "";
      problem.hidden = !message;
      element.classList.toggle("wrong", Boolean(message));
    },
  };
}

// -- one value ------------------------------------------------------------------------------------

function valueField(argument) {
  const schema = argument.schema ?? {};
  const kind = kindOf(argument);
  const id = `field-${argument.name}`;
  const choices = schema.enum ?? (kind === "boolean" ? [true, false] : null);
  const standard = argument.default;
  let input;
  if (choices) {
    input = el("select", { id },
      ...(argument.required ? [] : [el("option", { value: "" }, `default (${JSON.stringify(standard)})`)]),
      ...choices.map((choice) => el("option", { value: JSON.stringify(choice) }, String(choice))));
  } else if (kind === "string") {
    input = el("textarea", { id, rows: 3, placeholder: standard === undefined ? "" : String(standard), spellcheck: true });
  } else {
    input = el("input", {
      id, type: "number", step: kind === "integer" ? schema.multipleOf ?? 1 : "any",
      min: schema.minimum ?? schema.exclusiveMinimum, max: schema.maximum ?? schema.exclusiveMaximum,
      placeholder: standard === undefined || standard === null ? "" : String(standard),
      value: argument.required ? String(schema.minimum ?? (kind === "integer" ? 1 : 0.5)) : "",
    });
  }
  const field = frame(argument, kind === "string" ? "text" : argument.form === "json" ? kind : `${kind} · ${argument.datatype}`, input);
  field.value = () => {
    const text = input.value;
    if (!argument.required && text === "") return undefined;
    if (choices) return JSON.parse(text);
    if (kind === "string") return text;
    const number = Number(text);
    if (text.trim() === "" || Number.isNaN(number)) throw new Error("a number is needed");
    return number;
  };
  return field;
}

function kindOf(argument) {
  const kind = argument.schema?.type;
  if (typeof kind === "string") return kind;
  if (argument.datatype === "BYTES") return "string";
  if (argument.datatype === "BOOL") return "boolean";
  return /^U?INT/.test(argument.datatype) ? "integer" : "number";
}

// -- tensors and JSON -----------------------------------------------------------------------------

function jsonArea(argument, hint, filled, ...tools) {
  const input = el("textarea", {
    id: `field-${argument.name}`, className: "code", rows: Math.min(10, Math.max(3, filled.split("\n").length)),
    value: filled, spellcheck: false, placeholder: argument.required ? "" : JSON.stringify(argument.default ?? null),
  });
  const field = frame(argument, hint, input, tools.length ? el("div", { className: "tools" }, ...tools) : null);
  field.input = input;
  field.value = () => {
    if (!argument.required && input.value.trim() === "") return undefined;
    try {
      return JSON.parse(input.value);
    } catch (error) {
      throw new Error(`this is not JSON: ${error.message}`);
    }
  };
  return field;
}

function tensorField(argument) {
  const shape = argument.shape ?? [1];
  const sizes = shape.map((size) => (size < 0 ? 1 : size));
  const count = sizes.reduce((product, size) => product * size, 1);
  const element = { BYTES: () => "text", BOOL: () => true }[argument.datatype];
  const whole = /INT/.test(argument.datatype);
  const random = element ?? (whole ? () => Math.floor(Math.random() * 2) : () => Number(Math.random().toFixed(3)));
  const zero = element ?? (() => 0);
  const of = (make) => nested(sizes, make);
  let kept; // a value that is too long to be shown
  const fill = (make, name) => {
    const value = of(make);
    kept = count > MANY ? value : undefined;
    field.input.value = kept ? `${name}: ${sizes.join(" × ")} values` : compact(value);
    field.mark();
  };
  const tool = (name, make) => el("button", { type: "button", className: "quiet small", onclick: () => fill(make, name) }, name);
  const hint = `${argument.shape ? `[${shape.map((size) => (size < 0 ? "any" : size)).join(", ")}]` : "any shape"} ${argument.datatype}`;
  const tools = element ? [] : [tool("random", random), tool("zeros", zero)];
  const field = jsonArea(argument, hint, argument.required && count <= MANY ? compact(of(random)) : "", ...tools);
  const typed = field.value;
  field.value = () => kept ?? typed();
  field.input.addEventListener("input", () => { kept = undefined; });
  if (argument.required && count > MANY) fill(random, "random");
  return field;
}

function jsonField(argument) {
  const start = argument.default ?? example(argument.schema, argument.schema?.$defs ?? {}, 0);
  return jsonArea(argument, "JSON", argument.required ? shown(start) : "");
}

function nested(sizes, make) {
  if (!sizes.length) return make();
  return Array.from({ length: sizes[0] }, () => nested(sizes.slice(1), make));
}

// Lists of lists with a row on a line.
function compact(value) {
  if (!Array.isArray(value) || !Array.isArray(value[0])) return JSON.stringify(value).replaceAll(",", ", ");
  return `[${value.map(compact).join(",\n ")}]`;
}

function example(schema = {}, definitions, depth) {
  if (schema.$ref) schema = definitions[schema.$ref.split("/").pop()] ?? {};
  if (depth > 6) return null;
  const first = schema.default ?? schema.const ?? schema.examples?.[0] ?? schema.enum?.[0];
  if (first !== undefined) return first;
  const some = (schema.anyOf ?? schema.oneOf)?.[0];
  if (some) return example(some, definitions, depth + 1);
  const kind = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (kind === "array") {
    const length = Math.min(schema.minItems ?? 1, 16);
    return Array.from({ length }, () => example(schema.items, definitions, depth + 1));
  }
  if (kind === "object" || schema.properties) {
    const wanted = schema.required ?? Object.keys(schema.properties ?? {});
    return Object.fromEntries(wanted.map((name) => [name, example(schema.properties?.[name], definitions, depth + 1)]));
  }
  return { integer: schema.minimum ?? 1, number: schema.minimum ?? 0.5, boolean: true, string: "text", null: null }[kind] ?? {};
}

// -- files ----------------------------------------------------------------------------------------

function fileField(argument) {
  const image = argument.form === "image";
  const id = `field-${argument.name}`;
  const input = el("input", { id, type: "file", accept: image ? "image/*" : undefined, className: "file" });
  const preview = el("img", { className: "preview", alt: "The chosen picture", hidden: true });
  const name = el("span", {}, image ? "Drop a picture here, paste one, or choose a file" : "Drop a file here, or choose one");
  const zone = el("label", { className: "drop", htmlFor: id }, preview, name, input);
  const field = frame(argument, image ? "picture" : "file", zone);
  let content;
  const take = (file) => {
    if (!file) return;
    const reader = new FileReader();
    reader.onload = () => {
      content = reader.result.slice(reader.result.indexOf(",") + 1);
      name.textContent = `${file.name} · ${bytes(file.size)}`;
      preview.hidden = !image;
      if (image) preview.src = reader.result;
      field.mark();
    };
    reader.readAsDataURL(file);
  };
  input.addEventListener("change", () => take(input.files[0]));
  for (const event of ["dragenter", "dragover"]) {
    zone.addEventListener(event, (drag) => { drag.preventDefault(); zone.classList.add("over"); });
  }
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (drop) => {
    drop.preventDefault();
    zone.classList.remove("over");
    take(drop.dataTransfer.files[0]);
  });
  field.paste = (clipboard) => take([...clipboard.files].find((file) => !image || file.type.startsWith("image/")));
  field.value = () => {
    if (content === undefined && argument.required) throw new Error(image ? "choose a picture" : "choose a file");
    return content;
  };
  return field;
}
