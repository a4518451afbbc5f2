import { configDefaults, defineConfig } from "vitest/config";
import { softwareGpuEnvironment } from "./scripts/software-gpu.mjs";

// In-process tests run the packages' sources, through the "tensorwire-source" export condition, so that one copy
// of each module is loaded; tests that start processes run the built ones.
const conditions = ["tensorwire-source", "node", "import", "default"];

// What weighs or times processes has the machine to itself, and so has what gives a peer up after a fraction of a second; the rest
// mostly waits, for sockets and for processes.
const alone = [
  "packages/examples/test/**/*.test.ts",
  "packages/*/test/**/*memory*.test.ts",
  "packages/stream/test/heartbeats.test.ts",
  "packages/stream/test/*-timeout.test.ts",
];
const GPU_TESTS = "packages/*/test/**/*.gpu.test.ts";

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: "forks",
    projects: [
      {
        extends: true,
        test: {
          name: "side by side",
          include: ["packages/*/test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...alone, GPU_TESTS],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "alone",
          include: alone,
          exclude: [...configDefaults.exclude, GPU_TESTS],
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // Where Vulkan's driver is has to be in a process's environment when it starts. Its driver uses all cores.
        extends: true,
        test: {
          name: "gpu",
          include: [GPU_TESTS],
          env: softwareGpuEnvironment() ?? {},
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
