import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ordinary } from "@tensorwire/core/testing";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Addon, instructionSets, loadAddon } from "../src/addon.js";
import { loadNativeBackend } from "../src/index.js";
import { built, describeNative, processorHas } from "./instruction-sets.js";

const script = fileURLToPath(new URL("../scripts/build-addon.mjs", import.meta.url));

let output: string;
beforeEach(() => {
  output = mkdtempSync(join(tmpdir(), "tensorwire-"));
});
afterEach(() => {
  rmSync(output, { recursive: true });
  vi.unstubAllEnvs();
});

/** What is built here runs for a moment only; with its own flags `npm run build` has compiled the same. */
const CXXFLAGS = "-O0";

async function build(env: Record<string, string> = {}) {
  const { TENSORWIRE_REQUIRE_NATIVE: _, ...ours } = process.env;
  const run = promisify(execFile)(process.execPath, [script, "--output", output], {
    env: { ...ours, CXXFLAGS, ...env },
  });
  const { code = 0, stderr } = await run.catch((error) => error);
  return { code, stderr, addon: join(output, "tensorwire_quant.node") };
}

describe("building where there is no compiler", () => {
  it("gives one notice that says what to do, and succeeds", async () => {
    const { code, stderr, addon } = await build({ CXX: "no-such-compiler" });
    expect(code).toBe(0);
    expect(stderr).toMatch(/^@tensorwire\/quant-native: no native addon was built: CXX is no-such-compiler/);
    expect(stderr).toMatch(/portable codecs serve.*apt-get install g\+\+/s);
    expect(existsSync(addon)).toBe(false);
  });

  it("fails where native codecs are required", async () => {
    const { code, stderr } = await build({ CXX: "no-such-compiler", TENSORWIRE_REQUIRE_NATIVE: "1" });
    expect(code).toBe(1);
    expect(stderr).toContain("this build fails");
  });

  it("leaves no addon of other sources behind where compiling fails", async () => {
    const addon = join(output, "tensorwire_quant.node");
    writeFileSync(addon, "old");
    // Answers --version, and compiles nothing.
    const { code, stderr } = await build({ CXX: "git" });
    expect(code).toBe(0);
    expect(stderr).toContain("git failed");
    expect(existsSync(addon)).toBe(false);
  });
});

describeNative("building", () => {
  it("makes an addon with the kernels of this processor, and only once", async () => {
    const { code, stderr, addon } = await build();
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(loadAddon(addon)).toMatchObject({ isas: built!.isas });
    expect(built!.isas.at(-1)).toBe("scalar");
    expect(instructionSets()).toEqual(built!.isas);
    if (processorHas("avx2", "f16c")) expect(built!.isas).toContain("avx2");
    const { mtimeMs } = statSync(addon);
    await build();
    expect(statSync(addon).mtimeMs).toBe(mtimeMs);
    await build({ CXXFLAGS: `${CXXFLAGS} -DOTHER` });
    expect(statSync(addon).mtimeMs).toBeGreaterThan(mtimeMs);
  }, 240_000);

  it("does without libzstd where there is none, and says so once", async () => {
    const { code, stderr, addon } = await build({ TENSORWIRE_ZSTD: "none" });
    expect(code).toBe(0);
    expect(stderr).toMatch(/^@tensorwire\/quant-native: the addon was built without libzstd.*\n$/);
    expect(loadAddon(addon)).toMatchObject({ packs: false });
    expect((await build({ TENSORWIRE_ZSTD: "none" })).stderr).toBe("");
    // What packs here then, packs for it.
    vi.stubEnv("TENSORWIRE_PACKER", "");
    const backend = loadNativeBackend({ addon })!;
    const [source, target] = [ordinary("BF16", 4096, 1), new Uint8Array(8192)];
    const [packed, unpacked, back] = [new Uint8Array(8192), new Uint8Array(8192), new Uint8Array(8192)];
    const job = { codec: { name: "lossless" }, dtype: "BF16", elements: 4096 } as const;
    const { hash, packedBytes = 0 } = await backend.encode({ ...job, source, target, packed });
    const travels =
      packedBytes > 0 ? { payload: packed.subarray(0, packedBytes), unpacked } : { payload: target };
    await backend.decode({ ...job, ...travels, hash, output: "BF16", target: back });
    expect(back).toEqual(source);
    const repacked = await backend.pack({ payload: target, segments: [4096, 4096], packed });
    expect(repacked).toEqual({ hash, packedBytes });
    if (packedBytes === 0) return;
    const envelope = { packed: packed.subarray(0, packedBytes), segments: [4096, 4096], payload: unpacked };
    expect(await backend.unpack(envelope)).toBe(hash);
  }, 240_000);

  it("links with the system's libzstd", async () => {
    const { code, stderr, addon } = await build({ TENSORWIRE_ZSTD: "system" });
    expect(code).toBe(0);
    const loaded = loadAddon(addon) as Addon;
    if (!loaded.packs) {
      expect(stderr).toContain("no libzstd to link with");
      console.log("SKIPPED: needs libzstd-dev: an addon with the system's libzstd");
      return;
    }
    const [bytes, frame] = [new Uint8Array(10_000), new Uint8Array(100)];
    const length = loaded.makeFrame(bytes, frame);
    expect(length).toBeGreaterThan(0);
    expect(loaded.openFrame(frame.subarray(0, length), bytes.slice())).toBe(true);
  }, 240_000);
});
