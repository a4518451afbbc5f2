import { existsSync } from "node:fs";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { AgentProcess, type Answer, type Ask, at, hasAgents, type Json } from "./agent-fixture.js";
import { makeModel } from "./cli-process.js";

hasAgents();

/** By night: `TENSORWIRE_TEST_KILLS=200`. */
const ROUNDS = Number(process.env.TENSORWIRE_TEST_KILLS ?? 6);
const PROGRAMS = 3;

/** Slow enough to be killed in the middle of something. */
const ARGS = ["--max-bytes-per-second", "16M", "--patience", "50s", "--min-elements", "0"];

/** Numbers from 0 to 1, the same ones for the same seed. */
function draws(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** An agent that is killed, and started again, while programs use it. */
class Site {
  #agent!: AgentProcess;

  constructor(
    readonly name: string,
    private readonly args: readonly string[],
  ) {}

  get agent(): AgentProcess {
    return this.#agent;
  }

  async start(): Promise<void> {
    this.#agent = await AgentProcess.start(this.name, this.args);
  }

  /** As a program asks that goes on over the agent's restarts: the same again. */
  async ask(method: string, path: string, asking: () => Ask = () => ({})): Promise<Answer> {
    for (;;) {
      try {
        const answer = await this.#agent.ask(method, path, asking());
        // Its home is away.
        if (answer.status !== 502) return answer;
      } catch {
        // It is away itself.
      }
      await sleep(20);
    }
  }

  async over(answer: Answer): Promise<Json> {
    let { json } = answer;
    while (json.state === "running") ({ json } = await this.ask("GET", `/v1/transfers/${json.id}?wait=5`));
    return json;
  }

  /** Everything of it that is on the disk, but for what says whose it is. */
  async left(): Promise<string[]> {
    const folders = ["transfers", "models", "exchange", "exchange/.models"];
    const files = await Promise.all(folders.map((folder) => readdir(at(this.name, folder))));
    return files.flat().filter((name) => !name.startsWith("."));
  }
}

const TENSORS = [
  { name: "w", dtype: "F32", shape: [500_000] },
  { name: "steps", dtype: "I64", shape: [1000] },
] as const;

/** A model's way, once: published at one agent, fetched at others, freed at all of them. */
async function round(i: number, draw: () => number, [home, a, b]: Sites, bytes: Buffer): Promise<void> {
  const from = draw() < 0.7 ? a : home;
  const consume = draw() < 0.5;
  const codec = ["none", "float16"][Math.floor(draw() * 2)]!;
  const id = `publish-of-${i}`;
  const file = `${id}.safetensors`;
  const name = `round/${i}`;
  let answer: Answer;
  if (draw() < 0.4) {
    const stream = () => ({ stream: Readable.from([bytes]) });
    answer = await from.ask("PUT", `/v1/models/${name}?id=${id}&codec=${codec}`, stream);
  } else {
    await writeFile(at(from.name, "exchange", file), bytes);
    answer = await from.ask("POST", "/v1/models", () => ({
      body: { id, name, path: file, consume, codec },
    }));
  }
  const free = async (): Promise<void> => {
    await from.ask("DELETE", `/v1/models/${name}?transfer=${id}`);
    await from.ask("DELETE", `/v1/transfers/${id}`);
    await removed(at(from.name, "exchange", file));
  };
  if (draw() < 0.2) {
    await sleep(draw() * 200);
    await from.ask("DELETE", `/v1/transfers/${id}`);
    // Its home may have been away just then.
    return free();
  }
  const { ref, ...published } = await from.over(answer);
  expect(published, `published ${i}`).toMatchObject({ state: "done", sourceBytes: 2_008_000 });
  if (consume) expect(existsSync(at(from.name, "exchange", file))).toBe(false);

  for (const [k, site] of [home, b, b].entries()) {
    const more = [{}, { to: `fetched-${i}-${k}.safetensors` }, { outputDtype: "BF16" }][
      Math.floor(draw() * 3)
    ]!;
    const body = { id: `fetch-of-${i}-${k}`, ref, ...more };
    const begun = await site.ask("POST", "/v1/fetches", () => ({ body }));
    if (draw() < 0.2) await sleep(draw() * 200);
    else {
      const fetched = await site.over(begun);
      expect(fetched, `fetched ${i}, ${k}`).toMatchObject({ state: "done" });
      const got = await readFile(fetched.path);
      if (codec === "none" && !("outputDtype" in more)) expect(Buffer.compare(got, bytes)).toBe(0);
    }
    await site.ask("DELETE", `/v1/transfers/${body.id}`);
    if ("to" in more) await removed(at(site.name, "exchange", more.to!));
  }
  await free();
}

const removed = (path: string) => rm(path, { force: true });

type Sites = readonly [home: Site, a: Site, b: Site];

it(
  "leaves nothing when all is freed, wherever it was killed",
  async () => {
    const seed = Math.floor(Math.random() * 2 ** 32);
    const draw = draws(seed);
    const port = String(20_000 + Math.floor(Math.random() * 20_000));
    const dial = ["--home", `ws://127.0.0.1:${port}`];
    const sites: Sites = [
      new Site("home", ["--listen", `127.0.0.1:${port}`, ...ARGS]),
      new Site("a", [...dial, ...ARGS]),
      new Site("b", [...dial, ...ARGS]),
    ];
    for (const site of sites) await site.start();
    await makeModel(at("in.safetensors"), TENSORS);
    const bytes = await readFile(at("in.safetensors"));
    let next = 0;
    let running = true;
    const program = async (): Promise<void> => {
      while (next < ROUNDS && running) await round(next++, draw, sites, bytes);
    };
    const programs = Promise.all(Array.from({ length: PROGRAMS }, program)).finally(() => {
      running = false;
    });
    const killing = (async () => {
      while (running) {
        await sleep(30 + draw() * 500);
        const site = sites[Math.floor(draw() * sites.length)]!;
        await site.agent.kill();
        await site.start();
      }
    })();
    await Promise.all([programs, killing]).catch((cause) => {
      throw new Error(`with the seed ${seed}`, { cause });
    });
    const left = async () =>
      Object.fromEntries(await Promise.all(sites.map(async (site) => [site.name, await site.left()])));
    for (const site of sites) {
      expect(await site.agent.status(), site.name).toMatchObject({ models: [], transfers: [] });
    }
    expect(await left(), `with the seed ${seed}`).toEqual({ home: [], a: [], b: [] });
  },
  ROUNDS * 20_000,
);
