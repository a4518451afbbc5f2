import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { bearerTokens } from "@tensorwire/stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { COMMAND } from "../cli-process.js";
import { hasOpenssl } from "../certificates.js";
import { blocksOf, pages, ROOT } from "./blocks.js";
import { freePorts, openPlace, type Place } from "./place.js";
import { onThisMachine } from "./stage.mjs";

const built = existsSync(`${ROOT}packages/stream/dist/index.js`);
if (!built) console.log("SKIPPED: needs npm run build");

const blocks = pages()
  .flatMap(blocksOf)
  .filter(({ language }) => language === "sh");
const runnable = blocks.filter(({ reason }) => reason === undefined);

/** The lines of a block without their comments. A `#` in an argument would begin one too: there is none. */
const linesOf = (code: string): string[] =>
  code
    .split("\n")
    .map((line) => line.replace(/\s*#.*$/, "").trim())
    .filter((line) => line !== "");

const targetsOf = (code: string): string[] =>
  [...code.matchAll(/--out (\S+)|(?:un)?pack \S+ (\S+)|-o (\S+)/g)].map(
    ([, ...names]) => names.find(Boolean)!,
  );

/** What goes on until somebody ends it, or comes. */
const waits = (line: string): boolean => /tensorwire (serve|agent|receive .*--listen)/.test(line);

describe.runIf(built && hasOpenssl)("the commands of docs and READMEs", () => {
  let place: Place;
  let ports: number[];

  beforeAll(async () => {
    place = await openPlace();
    ports = await freePorts(runnable.length);
    const bin = join(place.folder, "bin");
    await mkdir(bin);
    await program(join(bin, "tensorwire"), `exec "${process.execPath}" "${COMMAND}" "$@"`);
    await program(join(bin, "npx"), 'exec "$@"');
    place.env.PATH = `${bin}${delimiter}${process.env.PATH}`;
  });
  afterAll(() => place.close());

  const cases = runnable.map(({ where, code }, i) => [where, code, i] as const);

  it.concurrent.each(cases)("%s", async (_, code, i) => {
    const folder = join(place.folder, `commands-${i}`);
    await cp(place.files, folder, { recursive: true });
    // What a block makes is not there yet.
    for (const target of targetsOf(code)) await rm(join(folder, target), { force: true });
    const env = { ...place.env, TENSORWIRE_TOKEN: "" };
    const waiting: { line: string; child: ChildProcess; ended: Promise<unknown> }[] = [];
    try {
      for (const line of linesOf(onThisMachine(code, { ...place.hub, port: ports[i]!, folder }))) {
        const child = spawn("sh", ["-c", `exec ${line}`.replace(/^exec (.* \| )/, "$1")], {
          cwd: folder,
          env,
        });
        let said = "";
        child.stderr.on("data", (text) => void (said += text));
        child.stdout.on("data", (text) => void (said += text));
        const ended = once(child, "close").then(([status]) => expect(status, `${line}\n${said}`).toBe(0));
        if (!waits(line)) await ended;
        else {
          waiting.push({ line, child, ended });
          const listening = new Promise<void>((done) =>
            child.stderr.on("data", () => /listening|agent on/.test(said) && done()),
          );
          await Promise.race([listening, ended]);
        }
      }
      // A receiver ends with its model, a server when it is told to.
      for (const { line, child, ended } of waiting) {
        if (/tensorwire (serve|agent)/.test(line)) child.kill("SIGINT");
        else await ended;
      }
    } finally {
      for (const { child, ended } of waiting) {
        child.kill("SIGKILL");
        await ended.catch(() => {});
      }
    }
  });

  it("are all run but for those that say why not", () => {
    const unrun = blocks.filter(({ reason }) => reason !== undefined);
    expect(unrun.map(({ where, reason }) => `${where}: ${reason}`)).toHaveLength(6);
  });
});

it("npm scripts that docs and READMEs speak of are there", async () => {
  const { scripts } = JSON.parse(await readFile(`${ROOT}package.json`, "utf8")) as { scripts: object };
  for (const page of pages()) {
    for (const [, name] of (await readFile(ROOT + page, "utf8"))
      .replace(/<!--.*?-->/gs, "")
      .matchAll(/npm run ([\w:-]+)/g)) {
      expect(scripts, `${page} speaks of npm run ${name}`).toHaveProperty(name!.replace(/:$/, ""));
    }
  }
});

it("JSON of docs and READMEs is what it is for", async () => {
  const json = pages()
    .flatMap(blocksOf)
    .filter(({ language }) => language === "json");
  for (const { where, code } of json) {
    const value = JSON.parse(bodyOf(code)) as Record<string, never>;
    if (/"token"|"sha256"/.test(code))
      await expect(bearerTokens(value), where).resolves.toBeTypeOf("function");
  }
  expect(json.length).toBeGreaterThan(0);
});

/** What a request carries, without its line; what is left out of it for readers, is. */
const bodyOf = (code: string): string =>
  code.replace(/^(GET|POST|PUT|DELETE) .*\n/, "").replaceAll(", …", "");

async function program(path: string, text: string): Promise<void> {
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
}
