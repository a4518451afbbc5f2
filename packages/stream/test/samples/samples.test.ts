import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasOpenssl } from "../certificates.js";
import { allBlocks, type Block, ROOT } from "./blocks.js";
import { freePorts, openPlace, type Place } from "./place.js";
import { expectedLines, javascriptOf, type Program, programsOf } from "./programs.js";
import { onThisMachine } from "./stage.mjs";

const built = existsSync(`${ROOT}packages/stream/dist/index.js`);
if (!built) console.log("SKIPPED: needs npm run build");

interface Outcome {
  readonly where: string;
  readonly lines?: string[];
  readonly error?: string;
  readonly took: number;
}

const blocks = allBlocks().filter(({ language }) => ["js", "ts"].includes(language));
/** Programs of processes that speak with each other have file names: `conversations.test.ts` runs them. */
const single = ({ name }: Block): boolean => !name.endsWith(".mjs");

describe.runIf(built && hasOpenssl)("the samples of docs, READMEs and docstrings", () => {
  let programs: Program[];
  let faults: string[];
  let place: Place;
  const outcomes = new Map<string, Outcome>();
  const strays: string[] = [];

  beforeAll(async () => {
    // What needs somebody else's package has its names, too.
    const here = blocks.filter(({ reason }) => !reason?.startsWith("needs "));
    ({ programs, faults } = programsOf(here));
    // In the repository, where the packages are found.
    const modules = `${ROOT}packages/stream/out/samples`;
    await mkdir(modules, { recursive: true });
    place = await openPlace();
    const { folder, hub } = place;
    const ports = await freePorts(programs.length);
    const samples = await Promise.all(
      programs
        .filter(({ block }) => block.reason === undefined && single(block))
        .map(async (program, i) => {
          const path = join(modules, `${process.pid}-${i}.mjs`);
          await writeFile(
            path,
            onThisMachine(javascriptOf(program), {
              ...hub,
              port: ports[i]!,
              folder: join(folder, String(i)),
            }),
          );
          return {
            where: program.block.where,
            program: path,
            needs: program.needs,
            folder: join(folder, String(i)),
          };
        }),
    );
    const runners = Math.min(2, availableParallelism());
    await Promise.all(
      Array.from({ length: runners }, (_, runner) =>
        run(
          samples.filter((_, i) => i % runners === runner),
          join(folder, `outcomes-${runner}`),
        ),
      ),
    );
    await Promise.all(samples.map(({ program }) => rm(program)));
  }, 120_000);

  afterAll(() => place?.close());

  async function run(samples: readonly object[], outcomesFile: string): Promise<void> {
    const { files, hub, env } = place;
    const ports = { plain: hub.plain, secure: hub.secure };
    const plan = JSON.stringify({ samples, files, ports, outcomes: outcomesFile });
    const runner = fileURLToPath(new URL("runner.mjs", import.meta.url));
    await promisify(execFile)(process.execPath, [runner, plan], { env });
    for (const line of readFileSync(outcomesFile, "utf8").trim().split("\n")) {
      const outcome = JSON.parse(line) as Outcome & { stray?: string };
      if (outcome.stray) strays.push(outcome.stray);
      else outcomes.set(outcome.where, outcome);
    }
  }

  it("are right by the types that were built", () => expect(faults).toEqual([]));

  it("end without an error, and print what they say", () => {
    const failed = programs.flatMap(({ block }) => {
      const { error, lines = [] } = outcomes.get(block.where) ?? {};
      if (error) return [`${block.where}: ${error}`];
      const expected = expectedLines(block.code);
      if (expected.length === 0 || inOrder(expected, lines)) return [];
      return [`${block.where} prints\n${lines.join("\n")}\nand not\n${expected.join("\n")}`];
    });
    expect([...strays, ...failed]).toEqual([]);
    if (process.env.SAMPLES_TIMES) {
      console.log([...outcomes.values()].sort((a, b) => b.took - a.took).slice(0, 8));
    }
  });

  it("are all run but for those that say why not", () => {
    const unrun = blocks
      .filter(({ reason }) => reason !== undefined)
      .map(({ where, reason }) => `${where}: ${reason}`);
    const run = programs.filter(({ block }) => outcomes.has(block.where));
    expect(run.length + unrun.length + blocks.filter((block) => !single(block)).length).toBe(blocks.length);
    expect(unrun).toHaveLength(19);
  });
});

/** Whether these lines stand in those, one after the other; a subscriber of another sample may say something between. */
function inOrder(expected: readonly string[], lines: readonly string[]): boolean {
  let at = 0;
  for (const line of lines) if (line === expected[at]) at++;
  return at === expected.length;
}
