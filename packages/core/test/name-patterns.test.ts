import { describe, expect, test } from "vitest";
import { MAX_PATTERN_LENGTH, MAX_PATTERNS, NamePatterns } from "../src/index.js";

const names = ["embed", "layers.0.q", "layers.0.lora_A", "layers.1.lora_A", "head"];

describe("patterns over names", () => {
  test("choose the names that one of them matches", () => {
    const chosen = new NamePatterns(["*.lora_?", "h*"]).choose(names, "m");
    expect(names.filter((_, i) => chosen[i])).toEqual(["layers.0.lora_A", "layers.1.lora_A", "head"]);
    expect(new NamePatterns(["*"]).choose(names, "m")).toEqual(names.map(() => true));
  });

  test("that overlap are all of use", () => {
    expect(new NamePatterns(["*", "layers.*", "embed"]).choose(names, "m").every(Boolean)).toBe(true);
  });

  test.each([
    [["*", "lora"], names, /"lora" matches no tensor of "m": its first is "embed"/],
    [["*"], [], /matches no tensor of "m": it has none/],
  ])("that match nothing are refused: %j", (patterns, of, message) => {
    expect(() => new NamePatterns(patterns).choose(of, "m")).toThrow(message);
  });

  test.each([
    [[]],
    ["*"],
    [[1]],
    [null],
    [Array.from({ length: MAX_PATTERNS + 1 }, () => "*")],
    [["x".repeat(MAX_PATTERN_LENGTH + 1)]],
  ])("are a bounded list of strings, not %#", (given) => {
    expect(() => new NamePatterns(given as never)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });
});
