import { execFile, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { built, type Packed, packAll, workspace } from "./published-fixture.js";

const run = promisify(execFile);
const { packages, remove } = built ? packAll() : { packages: [], remove: () => {} };
const folder = mkdtempSync(join(tmpdir(), "tensorwire-consumer-"));
afterAll(() => {
  remove();
  rmSync(folder, { recursive: true });
});

// Nothing of this repository: as it would be on any machine.
const { NODE_PATH: _, NODE_OPTIONS: __, ...env } = process.env;
const node = (...args: string[]) => run(process.execPath, args, { cwd: folder, env });

const modules = join(folder, "node_modules");
const linked = (name: string, from = join(workspace, "node_modules", name)): void => {
  mkdirSync(dirname(join(modules, name)), { recursive: true });
  if (!existsSync(join(modules, name))) symlinkSync(from, join(modules, name));
};

/** Installs the packages; where no registry answers, with what they depend on from this repository's own. */
async function install(): Promise<void> {
  const dependencies = Object.fromEntries(
    packages.map(({ manifest, tarball }) => [manifest.name, `file:${tarball}`]),
  );
  writeFileSync(
    join(folder, "package.json"),
    JSON.stringify({ private: true, type: "module", dependencies }),
  );
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"];
  try {
    await run("npm", ["install", ...flags], { cwd: folder, env, timeout: 60_000 });
  } catch {
    console.log("no registry answers: the consumer's dependencies are this repository's");
    rmSync(modules, { recursive: true, force: true });
    for (const packed of packages) place(packed);
  }
  // What a consumer of these has: types of Node, and what is optional.
  for (const name of ["@types/node", "undici-types", "@opentelemetry/api"]) linked(name);
}

function place({ manifest, folder: from }: Packed): void {
  linked(manifest.name, from);
  for (const name of readdirSync(join(workspace, "node_modules"))) {
    if (name.startsWith(".") || name === "@tensorwire") continue;
    if (!name.startsWith("@")) linked(name);
    else for (const each of readdirSync(join(workspace, "node_modules", name))) linked(`${name}/${each}`);
  }
  for (const [name, path] of Object.entries(manifest.bin ?? {})) {
    linked(`.bin/${name}`, join(modules, manifest.name, path));
  }
}

function sample(path: string, info: string): string {
  const text = readFileSync(join(workspace, path), "utf8");
  return new RegExp(`^\`\`\`${info}\n(.*?)^\`\`\`$`, "ms").exec(text)![1]!;
}

/** Every module that the packages export, by the name that it is imported by. */
const entries = packages.flatMap(({ manifest: { name, exports = {} } }) =>
  Object.entries(exports)
    .filter(([, conditions]) => typeof conditions === "object")
    .map(([path]) => name + path.slice(1)),
);

describe.runIf(built)("a project that installs what is published", () => {
  beforeAll(install, 120_000);

  it("runs the programs of the README", async () => {
    const receive = sample("README.md", "js receive.mjs").replace("9000", "0");
    writeFileSync(join(folder, "receive.mjs"), receive);
    const receiver = spawn(process.execPath, ["receive.mjs"], { cwd: folder, env });
    try {
      const lines = createInterface(receiver.stdout)[Symbol.asyncIterator]();
      const url = ((await lines.next()).value as string).replace("listening on ", "");
      const send = sample("README.md", "js send.mjs").replace("ws://127.0.0.1:9000", url);
      writeFileSync(join(folder, "send.mjs"), send);
      const { stdout, stderr } = await node("send.mjs");
      expect(stdout).toMatch(/^4194304 bytes as \d+, digest [0-9a-f]{16}\n$/);
      // The platform's addon was found: the portable codecs would say that they serve.
      expect(stderr).toBe("");
      expect((await lines.next()).value).toBe("weight F32 [ 4096, 256 ] 4194304");
    } finally {
      receiver.kill();
    }
  });

  it("has the command, with its dashboard", async () => {
    const command = join(modules, ".bin/tensorwire");
    const { version } = packages[0]!.manifest;
    expect((await run(command, ["--version"], { cwd: folder, env })).stdout).toBe(`${version}\n`);
    const server = spawn(command, ["serve", ".", "--dashboard"], { cwd: folder, env });
    try {
      for await (const line of createInterface(server.stderr)) {
        const [, url] = /dashboard at (\S+)$/.exec(line) ?? [];
        if (url === undefined) continue;
        expect(await (await fetch(url)).text()).toContain("<title>Tensorwire</title>");
        break;
      }
    } finally {
      server.kill("SIGKILL");
    }
  });

  it("finds every module that is exported", async () => {
    expect(entries).toContain("@tensorwire/stream/prometheus");
    // The suites are for vitest, which a project that only uses the packages does not have.
    const names = entries.filter((name) => !name.endsWith("/testing"));
    const script = names.map((name) => `await import("${name}");`).join("\n");
    await expect(node("--input-type=module", "--eval", script)).resolves.toMatchObject({ stderr: "" });
  });

  it.each([
    ["node16", "node16"],
    ["nodenext", "nodenext"],
    ["esnext", "bundler"],
  ])(
    "finds their types, with module %s and moduleResolution %s",
    async (module, moduleResolution) => {
      const imports = entries.map((name, i) => `import * as m${i} from "${name}";\nvoid m${i};`);
      const program = `
import { createModelServer, receiveModel, streamModel, type TransferSummary } from "@tensorwire/stream";
import { normfloat4, type TensorwireError } from "@tensorwire/core";
const server = await createModelServer({ uploads: "models", dashboard: true });
const data = new Float32Array(4);
const sent: TransferSummary = await streamModel({ w: { dtype: "F32", shape: [4], data } }, server.url, { codec: normfloat4.name });
for await (const { name, shape } of receiveModel(server.urlOf("w"))) console.log(name.length, shape[0]! + sent.seconds);
export const code = (error: TensorwireError): string => error.code;
// @ts-expect-error: types are there, and no any
await streamModel({ w: { dtype: "F33", shape: [4], data } }, server.url);
`;
      const place = join(folder, moduleResolution);
      mkdirSync(place);
      writeFileSync(join(place, "consumer.ts"), imports.join("\n") + program);
      const compilerOptions = {
        ...{ module, moduleResolution, target: "es2022", lib: ["es2023"], types: ["node"] },
        ...{ strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false, noEmit: true },
        ...{ typeRoots: ["../node_modules/@types"] },
      };
      writeFileSync(
        join(place, "tsconfig.json"),
        JSON.stringify({ compilerOptions, files: ["consumer.ts"] }),
      );
      const tsc = join(workspace, "node_modules/typescript/bin/tsc");
      const { stdout } = await node(tsc, "-p", place).catch((error: { stdout: string }) => error);
      expect(stdout).toBe("");
    },
    60_000,
  );
});
