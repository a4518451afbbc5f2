import { configDefaults, defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { softwareGpuEnvironment } from "./scripts/software-gpu.mjs";

// In-process tests run the packages' sources, through the "tensorwire-source" export condition, so that one copy
// of each module is loaded; tests that start processes run the built ones.
const conditions = ["tensorwire-source", "node", "import", "default"];

// What weighs or times processes has the machine to itself, and so has what gives a peer up after a fraction of a second, or is a
// machine's load of processes; the rest mostly waits, for sockets and for processes.
const alone = [
  "packages/examples/test/{crowd,demo,faults,federated,large,memory,one-socket,python,slow-sink}.test.ts",
  "packages/*/test/**/*memory*.test.ts",
  "packages/stream/test/heartbeats.test.ts",
  "packages/stream/test/*-timeout.test.ts",
];

// What compiles, emulates, or holds a backend to every codec. On a machine that has not run them before, vitest begins with the
// largest files: the smallest of all would run last, by itself, for a minute.
const LONG_TESTS =
  /quant-native\/test\/(arm64|backend|build-addon|fuzz|release)\.test|core\/test\/portable-backend\.test|stream\/test\/consumer\.test/;
/** They keep the processors busy: beside tests that wait, and not beside one another. */
const BETWEEN_LONG_TESTS = 10;

class LongTestsEarly extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification): boolean => LONG_TESTS.test(moduleId);
    const long = sorted.filter(isLong);
    const others = sorted.filter((file) => !isLong(file));
    const spread = others.flatMap((file, i) =>
      i % BETWEEN_LONG_TESTS === 0 ? [...long.splice(0, 1), file] : [file],
    );
    return [...spread, ...long];
  }
}

const GPU_TESTS = "packages/*/test/**/*.gpu.test.ts";

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: "forks",
    sequence: { sequencer: LongTestsEarly },
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
