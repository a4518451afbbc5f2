import { readdir } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { receiveModel, streamModel } from "../src/index.js";
import { json, run } from "./cli-process.js";
import { at, folder, hasFolder, STRONG, tensors } from "./integrity-fixture.js";

hasFolder();

describe("the command", () => {
  test("packs with --integrity, shows both digests, and takes only what --digest says", async () => {
    const model = at("model.safetensors");
    await streamModel(tensors(), at("known.twire"), STRONG);
    await receiveModel(at("known.twire"), { to: model }).done;
    const artifact = at("command.twire");
    const packed = json(await run("pack", model, artifact, "--integrity", "sha256", "--json"));
    expect(packed.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(json(await run("inspect", artifact, "--json")).artifact).toMatchObject({
      digest: packed.digest,
      sha256: packed.sha256,
    });
    expect((await run("inspect", artifact)).stdout).toContain(`sha256:${packed.sha256}`);
    const known = `sha256:${packed.sha256}`;
    const unpacked = await run(
      "unpack",
      artifact,
      at("command.safetensors"),
      "--digest",
      known.toUpperCase().replace("SHA", "sha"),
    );
    expect(unpacked.code).toBe(0);
    expect(unpacked.stdout).toContain(known);
    const refused = await run("unpack", artifact, at("other.safetensors"), "--digest", "0123456789abcdef");
    expect(refused.code).toBe(6);
    expect(refused.stderr).toMatch(/DIGEST_MISMATCH/);
    await run("pack", model, at("plain.twire"));
    const plain = await run("unpack", at("plain.twire"), at("other.safetensors"), "--integrity", "sha256");
    expect(plain.code).toBe(7);
    expect((await readdir(folder)).filter((name) => name.startsWith("other"))).toEqual([]);
    expect(json(await run("unpack", at("plain.twire"), at("p.safetensors"), "--json")).sha256).toBeNull();
    expect((await run("unpack", artifact, at("q.safetensors"), "--digest", "no")).code).toBe(2);
  });
});
