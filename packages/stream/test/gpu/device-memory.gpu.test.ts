import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { platform, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, expect, it } from "vitest";
import { describeGpu } from "./gpu-fixture.js";

const MIB = 2 ** 20;
// A driver in software takes most of a minute for 256 MiB: every test run has less, which is still more than the bound.
const SIZE = process.env.TENSORWIRE_TEST_GPU === "all" ? 256 : 64;
const TENSOR = SIZE * MIB;
const program = fileURLToPath(new URL("fixtures/device-memory.mjs", import.meta.url));

const folder = mkdtempSync(join(tmpdir(), "tensorwire-gpu-"));
afterAll(() => rmSync(folder, { recursive: true }));

describeGpu(`a tensor of ${SIZE} MiB in a buffer of a device`, () => {
  it.runIf(platform() === "linux")(
    "goes to a file and back within two windows of memory",
    async () => {
      const { stdout } = await promisify(execFile)("node", ["--expose-gc", program, folder, `${SIZE}`], {
        timeout: 110_000,
      });
      const { windowBytes, sent, received } = JSON.parse(stdout);
      // A window of the host's, and one of the device's, which a driver in software has in the same process.
      expect(sent.bytes).toBeLessThanOrEqual(2 * windowBytes);
      expect(received.tensorBytes).toBe(TENSOR);
      expect(received.bytes).toBeLessThanOrEqual(TENSOR + 2 * windowBytes);
      expect(Object.values(sent.backends)).toEqual([TENSOR]);
      expect(Object.keys(received.backends)).toEqual([expect.stringMatching(/^gpu-/)]);
    },
    120_000,
  );
});
