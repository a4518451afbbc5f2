import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { xxh64 } from "@tensorwire/core";
import { ordinary } from "@tensorwire/core/testing";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { describeNative } from "./instruction-sets.js";

const MISSING = "/nowhere/tensorwire_quant.node";

describe("defaultBackend without an addon", () => {
  let { defaultBackend, loadNativeBackend } = {} as typeof import("../src/index.js");
  const warned = vi.spyOn(process, "emitWarning").mockImplementation(() => {});

  beforeEach(async () => {
    // It remembers that it gave notice: a fresh copy for each test.
    vi.resetModules();
    ({ defaultBackend, loadNativeBackend } = await import("../src/index.js"));
    vi.stubEnv("TENSORWIRE_BACKEND", "");
    warned.mockClear();
  });

  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it("is the portable one, and says so once", async () => {
    const backend = defaultBackend({ addon: MISSING });
    expect(backend.name).toBe("portable");
    expect(defaultBackend({ addon: MISSING }).name).toBe("portable");
    expect(warned).toHaveBeenCalledTimes(1);
    expect(warned).toHaveBeenCalledWith(
      expect.stringMatching(/was not built.*C\+\+17 compiler/s),
      expect.objectContaining({ code: "TENSORWIRE_PORTABLE" }),
    );
    const source = ordinary("F32", 1000, 1);
    const target = new Uint8Array(2000);
    const { hash } = await backend.encode({
      codec: { name: "bfloat16" },
      dtype: "F32",
      elements: 1000,
      source,
      target,
    });
    expect(hash).toBe(xxh64(target));
  });

  it("says why a file that is there cannot be loaded", () => {
    const directory = mkdtempSync(join(tmpdir(), "tensorwire-"));
    const addon = join(directory, "torn.node");
    writeFileSync(addon, "not an addon");
    try {
      expect(defaultBackend({ addon }).name).toBe("portable");
      expect(warned).toHaveBeenCalledWith(
        expect.stringMatching(/cannot be loaded: .*torn\.node/),
        expect.anything(),
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("takes no addon of another version's sources", () => {
    const directory = mkdtempSync(join(tmpdir(), "tensorwire-"));
    try {
      for (const [name, contract] of Object.entries({ "none.cjs": "undefined", "other.cjs": "0" })) {
        const addon = join(directory, name);
        writeFileSync(addon, `module.exports = { isas: ["scalar"], packs: false, contract: ${contract} };`);
        expect(loadNativeBackend({ addon })).toBe(undefined);
        expect(defaultBackend({ addon }).name).toBe("portable");
      }
      expect(warned).toHaveBeenCalledWith(
        expect.stringMatching(/none\.cjs was built from another version's sources/),
        expect.anything(),
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("says nothing where portable was asked for", () => {
    vi.stubEnv("TENSORWIRE_BACKEND", "portable");
    expect(defaultBackend({ addon: MISSING }).name).toBe("portable");
    expect(warned).not.toHaveBeenCalled();
  });

  it("fails where another was asked for", () => {
    for (const wanted of ["native", "scalar"]) {
      vi.stubEnv("TENSORWIRE_BACKEND", wanted);
      expect(() => defaultBackend({ addon: MISSING })).toThrow(/was not built/);
    }
    vi.stubEnv("TENSORWIRE_BACKEND", "cuda");
    expect(() => defaultBackend()).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});

describeNative("defaultBackend with the addon", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it("is native, with the instruction set that was asked for", async () => {
    const { defaultBackend, loadNativeBackend } = await import("../src/index.js");
    expect(defaultBackend().name).toBe(loadNativeBackend()!.name);
    vi.stubEnv("TENSORWIRE_BACKEND", "native");
    expect(defaultBackend().name).toMatch(/^native-/);
    vi.stubEnv("TENSORWIRE_BACKEND", "scalar");
    expect(defaultBackend().name).toBe("native-scalar");
    vi.stubEnv("TENSORWIRE_BACKEND", "portable");
    expect(defaultBackend().name).toBe("portable");
  });
});
