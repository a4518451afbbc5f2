import { defineConfig } from "vitest/config";

// In-process tests run the packages' sources, through the "tensorwire-source" export condition, so that one copy
// of each module is loaded; tests that start processes run the built ones.
export default defineConfig({
  resolve: { conditions: ["tensorwire-source", "node", "import", "default"] },
  ssr: { resolve: { conditions: ["tensorwire-source", "node", "import", "default"] } },
  test: {
    include: ["packages/*/test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    pool: "forks",
  },
});
