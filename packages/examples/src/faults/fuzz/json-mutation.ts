import type { Draws } from "../draws.js";

/** Values that somebody's check has forgotten before. */
const ODD: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  -0,
  1,
  1.5,
  255,
  256,
  4096,
  32767,
  32768,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 63,
  1e308,
  "",
  "0",
  "F32",
  "F4",
  "none",
  "lossless",
  "linear3",
  "__proto__",
  "constructor",
  "__metadata__",
  "../../etc/passwd",
  "a\u0000b",
  "\ud800",
  "\u202e",
  "x".repeat(300),
  [],
  {},
  [[]],
  [null],
  { name: "none" },
];

/** What no value of JavaScript becomes, but JSON may hold. */
const ODD_TEXT = ["1e400", "-1e400", "1E2", "0.0", "-0", "01", "+1", "NaN", "\ufeff", '"\\ud800"', "[", "}"];

type Path = readonly (string | number)[];

/** JSON that differs from `text` in one place, mostly still JSON. */
export function mutateJson(text: string, draws: Draws): string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return mutateText(text, draws);
  }
  if (draws.oneIn(8)) return mutateText(text, draws);
  const paths = places(value);
  const path = draws.pick(paths);
  switch (draws.below(6)) {
    case 0:
      return JSON.stringify(without(value, path));
    case 1:
      return repeated(value, draws, paths);
    case 2:
      return JSON.stringify(replaced(value, path, nearby(at(value, path), draws)));
    case 3:
      return JSON.stringify(replaced(value, path, at(value, draws.pick(paths))));
    case 4:
      return withMember(value, path, draws);
    default:
      return JSON.stringify(replaced(value, path, draws.pick(ODD)));
  }
}

function mutateText(text: string, draws: Draws): string {
  const from = draws.below(text.length + 1);
  const rest = text.slice(from);
  switch (draws.below(5)) {
    case 0:
      return text.slice(0, from);
    case 1:
      return text.slice(0, from) + rest.slice(draws.between(1, 8));
    case 2:
      return text.slice(0, from) + draws.pick(ODD_TEXT) + rest;
    case 3:
      // A number becomes one that JavaScript cannot write.
      return text.replace(/\d+/, draws.pick(ODD_TEXT));
    default:
      return draws.pick(["[".repeat(5000), '{"a":'.repeat(3000), `${text}${text}`, ` ${text}\n`]);
  }
}

/** Every place of a tree, up to some hundreds. */
function places(value: unknown, path: Path = [], found: Path[] = []): Path[] {
  found.push(path);
  if (found.length < 300 && typeof value === "object" && value !== null) {
    for (const key of Array.isArray(value) ? value.keys() : Object.keys(value)) {
      places((value as Record<string | number, unknown>)[key], [...path, key], found);
    }
  }
  return found;
}

function at(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((inner, key) => (inner as Record<string | number, unknown>)[key], value);
}

/** A copy with another value at a place. */
function replaced(value: unknown, [key, ...rest]: Path, by: unknown): unknown {
  if (key === undefined) return by;
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<
    string | number,
    unknown
  >;
  copy[key] = replaced(copy[key], rest, by);
  return copy;
}

function without(value: unknown, path: Path): unknown {
  const key = path.at(-1);
  if (key === undefined) return null;
  const parent = at(value, path.slice(0, -1));
  const less = Array.isArray(parent)
    ? parent.filter((_, i) => i !== key)
    : Object.fromEntries(Object.entries(parent as object).filter(([name]) => name !== key));
  return replaced(value, path.slice(0, -1), less);
}

/** An array with a member twice, or thousands of times. */
function repeated(value: unknown, draws: Draws, paths: readonly Path[]): string {
  const arrays = paths.filter((path) => {
    const found = at(value, path);
    return Array.isArray(found) && found.length > 0;
  });
  if (!arrays.length) return JSON.stringify([value, value]);
  const path = draws.pick(arrays);
  const array = at(value, path) as unknown[];
  const times = draws.pick([1, 1, 1, 2, 64, 3000]);
  const member = draws.pick(array);
  return JSON.stringify(replaced(value, path, [...array, ...Array.from({ length: times }, () => member)]));
}

function nearby(value: unknown, draws: Draws): unknown {
  if (typeof value === "number") {
    return draws.pick([value + 1, value - 1, value * 2, -value, value + 0.5, value * 2 ** 32, value + 4096]);
  }
  if (typeof value === "string") {
    return draws.pick([
      `${value}x`,
      value.slice(1),
      value.toUpperCase(),
      value.normalize("NFD"),
      `${value}\u0000`,
    ]);
  }
  if (Array.isArray(value))
    return draws.pick([[...value].reverse(), value.slice(1), [value], value.concat(1)]);
  return draws.pick(ODD);
}

/** An object with a member more, of a name that it may have already. */
function withMember(value: unknown, path: Path, draws: Draws): string {
  const text = JSON.stringify(value);
  const target = JSON.stringify(at(value, path));
  if (!target?.startsWith("{")) return text.replace("{", '{"unknown":[1,{"a":null}],');
  const name = draws.pick(["unknown", "name", "kind", "__proto__", "metadata", "chunkBytes", "versions"]);
  const member = `${JSON.stringify(name)}:${JSON.stringify(draws.pick(ODD)) ?? "null"}`;
  const more = target === "{}" ? `{${member}}` : `{${member},${target.slice(1)}`;
  return text.replace(target, () => more);
}
