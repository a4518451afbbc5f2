import { describe, it } from "vitest";
import { type OpenGpuDevice, openGpuDevice } from "../../src/gpu/index.js";

/** A device for the tests of this file, or why there is none: on machines without a GPU, SwiftShader (scripts/software-gpu.mjs). */
let opened: OpenGpuDevice | Error;
try {
  opened = await openGpuDevice();
} catch (error) {
  opened = error as Error;
}

/** Registers `tests`, on a device that is open, where there is one. */
export function describeGpu(name: string, tests: (device: OpenGpuDevice["device"]) => void): void {
  if (opened instanceof Error) {
    console.log(`SKIPPED: needs a GPU, or npm webgpu and SwiftShader: ${name}: ${opened.message}`);
    it.skip(`${name}: needs a GPU`, () => {});
    return;
  }
  const { device } = opened;
  describe(name, () => tests(device));
}
