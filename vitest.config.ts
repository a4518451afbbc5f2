import { defineConfig } from "vitest/config";
import { softwareGpuEnvironment } from "./scripts/software-gpu.mjs";

const GPU_TESTS = "packages/*/test/**/*.gpu.test.ts";

// In-process tests run the packages' sources, through the "tensorwire-source" export condition, so that one copy
// of each module is loaded; tests that start processes run the built ones.
export default defineConfig({
  resolve: { conditions: ["tensorwire-source", "node", "import", "default"] },
  ssr: { resolve: { conditions: ["tensorwire-source", "node", "import", "default"] } },
  test: {
    testTimeout: 30_000,
    hookTimeout: 30_000,
    pool: "forks",
    projects: [
      {
        extends: true,
        test: { name: "all", include: ["packages/*/test/**/*.test.ts"], exclude: [GPU_TESTS] },
      },
      {
        // Where Vulkan's driver is has to be in a process's environment when it starts.
        extends: true,
        test: { name: "gpu", include: [GPU_TESTS], env: softwareGpuEnvironment() ?? {} },
      },
    ],
  },
});
