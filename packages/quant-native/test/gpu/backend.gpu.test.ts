import { backendSuite } from "@tensorwire/core/testing";
import { GPU_CODECS, gpuCodecs } from "../../src/gpu/index.js";
import { defaultBackend } from "../../src/index.js";
import { describeGpu } from "./test-device.js";

// A driver in software takes two and a half minutes for all of them: every test run has two, and every
// codec its adversarial values (parity.gpu.test.ts).
const names = process.env.TENSORWIRE_TEST_GPU === "all" ? GPU_CODECS : ["float16", "normfloat4"];

describeGpu("the contract of a backend", (device) => {
  const host = defaultBackend();
  backendSuite("gpu", () => gpuCodecs(device, { hostJobs: true, host, only: names }), { names });
});
