import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { modelNameFault, modelNameKey } from "../src/index.js";

describe("the name of a model is refused where it", () => {
  const refused: [why: string, names: string[]][] = [
    ["leads out of its folder", ["..", "../a", "a/..", "a/../../b", ".", "a/./b", "...", "a/.../b"]],
    [
      "leads out of it where it is decoded once more",
      ["%2e%2e", "a/%2E./b", ".%2e/x", "a%2fb", "a%5Cb", "a%00"],
    ],
    ["is absolute", ["/", "/a", "//host/share", "\\\\host\\share", "\\a"]],
    ["names a drive, or a stream of a file", ["C:", "C:a", "c:/a", "a:b", "a/b::$DATA"]],
    ["holds a backslash", ["a\\b", "..\\a", "a/b\\..\\c"]],
    [
      "is a device",
      ["CON", "con", "NUL", "nul.safetensors", "a/COM1", "com9.twire", "LPT1", "lpt0.x", "AUX", "prn.tar.gz"],
    ],
    ["is a device, however it is written", ["CONIN$", "conout$", "COM¹", "lpt².x", "con .txt", "Nul  "]],
    ["ends in a dot or a space", ["a.", "a ", "a/b./c", "a /b", "a.safetensors."]],
    ["holds a control character", ["a\0b", "a\nb", "a\tb", "\x7f", "a\x85b", "\x1b[2J"]],
    [
      "holds what cannot be seen",
      ["a\u200bb", "a\u202eb", "\ufeffa", "a\u2028b", "a\u00adb", "\ud800", "a\udc00b"],
    ],
    ["has an empty part", ["", "a//b", "a/", "/"]],
    ["is too long", ["x".repeat(193), `a/${"é".repeat(97)}`, Array(200).fill("abcdef").join("/")]],
    ["is not in normalization form C", ["e\u0301", "a/A\u030a", "\u212b", "\u1112\u1161\u11ab"]],
    ["is hidden", [".a", "a/.git/b", ".part"]],
    [
      "is what our own files are called",
      [
        "a.part",
        "a.PART",
        "a.part.lock",
        "a.part.journal",
        "b/a.part/c",
        "a.part.lock.guard",
        "x.lock",
        "x.journal",
      ],
    ],
    ["is none on another system", ['a"b', "a<b", "a>b", "a|b", "a*b", "a?b", "a#b", " a"]],
  ];
  for (const [why, names] of refused) {
    it(why, () => {
      for (const name of names) expect(modelNameFault(name), JSON.stringify(name)).toBeTypeOf("string");
    });
  }
});

it("the name of a model is taken where it is one", () => {
  const names = [
    "llama",
    "model.safetensors",
    "a/b/c.twire",
    "site-1/round 3/update.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "Ångström",
    "模型/权重",
    "🦙",
    "console",
    "com10",
    "lpt",
    "null",
    "party.partial",
    "100%",
    "a..b",
    "x".repeat(192),
  ];
  for (const name of names) expect(modelNameFault(name), name).toBe(undefined);
});

it("whatever is taken stays within its folder, on any system, decoded any number of times", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      "..",
      ".",
      "/",
      "\\",
      "%2e",
      "%2f",
      "%5c",
      ":",
      "C:",
      "con",
      "nul",
      " ",
      "\0",
      ".part",
      "%",
      "~",
      "a",
    ),
    fc.string({ maxLength: 3, unit: "binary" }),
  );
  const name = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(""));
  fc.assert(
    fc.property(name, (name) => {
      fc.pre(modelNameFault(name) === undefined);
      let decoded = name;
      for (let i = 0; i < 3; i++) {
        const { pathname } = new URL(`file:///root/${decoded.replace(/%/g, "%25")}`);
        expect(pathname.startsWith("/root/")).toBe(true);
        for (const segment of decoded.split("/")) {
          expect(segment).not.toMatch(/^\.*$|[\\:\0]|[. ]$|^\.|^(con|nul|aux|prn)(\.|$)/i);
        }
        try {
          decoded = decodeURIComponent(decoded);
        } catch {
          break;
        }
        expect(decoded).toBe(name);
      }
    }),
    { numRuns: 1500 },
  );
});

it("names that differ only in case, normalization or compatible characters have one key", () => {
  const same = [
    ["Model", "model", "MODEL", "ｍodel"],
    ["straße", "STRASSE", "strasse"],
    ["é", "e\u0301", "É", "E\u0301"],
    ["ﬁne", "FINE"],
    ["Å", "\u212b", "å"],
    ["σας", "ΣΑΣ"],
    ["ſ", "s"],
    ["K", "\u212a"],
  ];
  for (const names of same) expect(new Set(names.map(modelNameKey)).size, names.join()).toBe(1);
  expect(modelNameKey("model-1")).not.toBe(modelNameKey("model-2"));
});
