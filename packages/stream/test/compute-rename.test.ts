import { describe, expect, test } from "vitest";
import { artifactSource, rename, select } from "../src/index.js";
import { isEncodedSource } from "../src/source/source.js";
import { artifact, bytesByName, hasArtifact, map, names, received } from "./view-fixture.js";

hasArtifact();

describe("rename", () => {
  const NEW = { weight: "w", double: "weight" };

  test("gives new names to the same elements, encoded or not", async () => {
    for (const given of [rename(map, NEW), rename(artifactSource(artifact), NEW)]) {
      const got = bytesByName(
        await received(given, { chunkBytes: isEncodedSource(given) ? undefined : 32_768 }),
      );
      const plain = bytesByName(
        await received(isEncodedSource(given) ? artifactSource(artifact) : select(map, ["*"])),
      );
      expect([...got.keys()]).toEqual(
        names.map((name) => (name === "weight" ? "w" : name === "double" ? "weight" : name)),
      );
      expect(got.get("w")).toEqual(plain.get("weight"));
      expect(got.get("weight")).toEqual(plain.get("double"));
    }
  });

  test.each([
    [{ nobody: "x" }, /no such tensor/],
    [{ weight: "double" }, /"double", which is that of|which is that of "weight"/],
    [() => "same", /which is that of "scalar"/],
    [() => 1, /no string/],
  ])("%# is refused", async (names, message) => {
    await expect(received(rename(map, names as never))).rejects.toThrow(message);
  });

  test("takes a map, an object or a function", () => {
    expect(() => rename(map, 5 as never)).toThrow(/a map, an object or a function/);
  });
});
