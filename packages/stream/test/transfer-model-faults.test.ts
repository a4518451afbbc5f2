import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { TensorwireError, transferModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { failure, folder, listing } from "./sink-fixture.js";
import { model, sinkOf, small, sourceOf, WINDOW } from "./transfer-model-fixture.js";

checksLoans();

describe("it fails with what failed first", () => {
  const broken = new TensorwireError("SOURCE_MISMATCH", "the source broke");

  test.each([0, 1, 20])("the source, at chunk %i: nothing is left", async (at) => {
    const source = sourceOf(30, (chunk) => {
      if (chunk.ordinal === at) throw broken;
    });
    const to = folder();
    const error = await failure(transferModel(source, join(to, "m.twire"), small));
    expect([error.code, error.chunk]).toEqual(["SOURCE_MISMATCH", at]);
    expect(error.message).toContain("the source broke");
    expect(listing(to)).toEqual([]);
  });

  test("the source, before there is anything between the two", async () => {
    const to = folder();
    const open = async (): Promise<never> => Promise.reject(broken);
    expect(
      await failure(
        transferModel(
          sourceOf(1, () => {}, { open }),
          join(to, "m.twire"),
          small,
        ),
      ),
    ).toBe(broken);
    expect((await failure(transferModel(join(to, "no.safetensors"), join(to, "m.twire")))).code).toBe(
      "SOURCE_READ",
    );
    expect(listing(to)).toEqual([]);
  });

  test.each([0, 20])("the sink, at chunk %i", async (at) => {
    let closed = 0;
    const close = async (): Promise<void> => void closed++;
    const sink = sinkOf((chunk) =>
      chunk.ordinal === at ? Promise.reject(new Error("the disk is gone")) : undefined,
    );
    const error = await failure(
      transferModel(
        sourceOf(30, () => {}, { close }),
        sink,
        small,
      ),
    );
    expect(error.message).toContain("the disk is gone");
    expect([error.code, closed]).toEqual([expect.not.stringMatching("PEER_FAILED"), 1]);
  });

  test("the sink, before any data", async () => {
    const to = folder();
    writeFileSync(join(to, "m.twire"), "mine");
    let reads = 0;
    const source = sourceOf(3, () => void reads++);
    expect((await failure(transferModel(source, join(to, "m.twire"), small))).code).toBe("TARGET_EXISTS");
    expect([reads, listing(to)]).toEqual([0, ["m.twire"]]);
  });

  test("options of either end", async () => {
    const to = join(folder(), "m.safetensors");
    const all = [
      { codec: "zip9" },
      { seed: "12" },
      { outputDtype: "I8" as "F32" },
      { expectedDigest: "x" },
      { windowBytes: 1 },
      { chunkBytes: WINDOW, windowBytes: WINDOW },
    ];
    for (const options of all) {
      const error = await failure(transferModel(model, to, options));
      expect(["INVALID_ARGUMENT", "CODEC_UNSUPPORTED"], JSON.stringify(options)).toContain(error.code);
    }
  });

  test("the demand for SHA-256 of an artifact that has none", async () => {
    const at = folder();
    await transferModel(model, join(at, "m.twire"), small);
    const call = transferModel(join(at, "m.twire"), join(at, "n.twire"), { ...small, integrity: "sha256" });
    expect((await failure(call)).code).toBe("INTEGRITY_REQUIRED");
    expect(listing(at)).toEqual(["m.twire"]);
    const codec = { ...small, integrity: "sha256", codec: "float16" } as const;
    const anew = await transferModel(join(at, "m.twire"), join(at, "n.twire"), codec);
    expect(anew.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  test.each(["source", "sink", "neither"])("the signal, while the %s is at work", async (end) => {
    const controller = new AbortController();
    const never = (): Promise<void> => {
      setImmediate(() => controller.abort(new Error("enough")));
      return new Promise(() => {});
    };
    const waiting: ((error: unknown) => void)[] = [];
    const sink = sinkOf(
      () => {
        if (end !== "sink") return undefined;
        void never();
        return new Promise((_, reject) => waiting.push(reject));
      },
      {
        async abort(error) {
          for (const reject of waiting) reject(error);
        },
      },
    );
    if (end === "neither") controller.abort(new Error("enough"));
    const source = sourceOf(5, end === "source" ? never : () => {});
    const error = await failure(transferModel(source, sink, { ...small, signal: controller.signal }));
    expect([error.code, error.message]).toEqual(["ABORTED", "the transfer was aborted: enough"]);
  });
});
