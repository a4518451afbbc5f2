import { describe, expect, it } from "vitest";
import { defaultCodecs, encodeManifest, type Manifest, type ManifestTensor } from "../src/index.js";
import { bytesOf, errorOf, type Json, parse, written } from "./manifest-fixture.js";
import { headerOf, sample } from "./manifest-samples.js";

describe("the source's header", () => {
  const tensors = () => [...sample().tensors];
  const metadata = () => new Map(sample().metadata);
  const withText = (text: string): Json => ({ ...written(), header: { format: "safetensors", text } });
  const good = (): Json => JSON.parse(headerOf(tensors(), metadata()));
  const changed = (change: (header: Json) => void): string => {
    const header = good();
    change(header);
    return JSON.stringify(header);
  };

  it("may order its members as it likes, and be padded", () => {
    const header = good();
    const reversed = JSON.stringify(Object.fromEntries(Object.entries(header).reverse()));
    for (const text of [reversed, `${reversed}    `, JSON.stringify(header, null, 1)]) {
      expect(parse(bytesOf(withText(text))).manifest.header?.text).toBe(text);
    }
  });

  it.each<[string, string, string]>([
    ["orders the data in another way", headerOf(tensors().reverse(), metadata()), "not the manifest's"],
    ["has a tensor less", headerOf(tensors().slice(0, 3), metadata()), "no tensor owns"],
    [
      "has an empty tensor more",
      changed((h) => (h.more = { dtype: "U8", shape: [0], data_offsets: [0, 0] })),
      "not the",
    ],
    [
      "has a tensor more",
      changed((h) => (h.more = { dtype: "U8", shape: [1], data_offsets: [32836, 32837] })),
      "truncated",
    ],
    [
      "has another name",
      changed((h) => delete Object.assign(h, { other: h.scale }).scale),
      "not the manifest's",
    ],
    ["has another dtype", changed((h) => (h.scale.dtype = "F16")), "not the manifest's"],
    ["has another shape", changed((h) => (h.scale.shape = [1])), "not the manifest's"],
    ["has a shape of other bytes", changed((h) => (h.scale.shape = [2])), "takes 4"],
    ["has a hole", changed((h) => (h["norm.weight"].data_offsets = [32771, 32837])), "hole"],
    ["has an overlap", changed((h) => (h["norm.weight"].data_offsets = [32769, 32835])), "overlap"],
    ["begins after the data", changed((h) => (h["embed.weight"].data_offsets = [1, 32769])), "hole"],
    ["has other metadata", changed((h) => (h.__metadata__.format = "tf")), "metadata"],
    ["has more metadata", changed((h) => (h.__metadata__.more = "")), "metadata"],
    ["has less metadata", changed((h) => delete h.__metadata__.format), "metadata"],
    ["has no metadata", changed((h) => delete h.__metadata__), "metadata"],
    ["goes on behind its end", `${headerOf(tensors(), metadata())} {}`, "the end"],
    ["ends before its end", headerOf(tensors(), metadata()).slice(0, -1), "found the end"],
    ["is padded with something else", `${headerOf(tensors(), metadata())}\0`, "the end"],
    ["is no JSON", "{", "expected"],
    ["is empty", "", "empty"],
    ["has a duplicate", headerOf([...tensors(), tensors()[2]!], metadata()), "twice"],
  ])("is refused where it %s", (_what, text, message) => {
    const error = errorOf(() => parse(bytesOf(withText(text))));
    expect(error?.code).toBe("MANIFEST_INVALID");
    expect(error?.message).toMatch(/^the source's header: /);
    expect(error?.message).toContain(message);
  });

  it("is held to the limits that the manifest is held to", () => {
    const codec = defaultCodecs.resolve("none");
    const many: ManifestTensor[] = [
      { name: "n".repeat(5000), dtype: "U8", shape: new Array<number>(70).fill(1), codec },
    ];
    const manifest: Manifest = {
      ...sample(),
      tensors: many,
      header: { format: "safetensors", text: headerOf(many, metadata()) },
    };
    const raised = { maxNameBytes: 5000, maxRank: 70 };
    expect(parse(encodeManifest(manifest), raised).manifest).toEqual(manifest);
  });
});
