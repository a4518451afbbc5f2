import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import { get } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { receiveModel, streamModel, TensorwireError, type TransferOptions } from "@tensorwire/stream";
import { Counts } from "./counts.js";
import { type FaultKind, type FaultOptions, type FaultReport, never } from "./fault-kind.js";
import { MIXED, writeModel } from "./models.js";

/** The command as users run it. */
const COMMAND = join(
  dirname(createRequire(import.meta.url).resolve("@tensorwire/stream")),
  "../bin/tensorwire.js",
);
const MODEL = ".safetensors";

/** Names that nobody may read or write by, as they stand in a request's path. */
const HOSTILE = [
  `../secret${MODEL}`,
  `../../secret${MODEL}`,
  `sub/../../secret${MODEL}`,
  `..%2fsecret${MODEL}`,
  `%2e%2e/secret${MODEL}`,
  `%2e%2e%2fsecret${MODEL}`,
  `..%5csecret${MODEL}`,
  `..\\secret${MODEL}`,
  `%252e%252e%252fsecret${MODEL}`,
  `/secret${MODEL}`,
  `%2fetc%2fpasswd`,
  `//etc/passwd`,
  `c:${MODEL}`,
  `C:%5Csecret${MODEL}`,
  `CON${MODEL}`,
  `nul`,
  `aux.txt`,
  `COM1${MODEL}`,
  `a%00${MODEL}`,
  `a%0a${MODEL}`,
  `good${MODEL}.`,
  `good${MODEL}%20`,
  `good${MODEL}:stream`,
  `.`,
  `..`,
  `./good${MODEL}`,
  `sub//good${MODEL}`,
  `%ff${MODEL}`,
  `%E2%80%AEgood${MODEL}`,
  `link/secret${MODEL}`,
  `linked${MODEL}`,
  `${"x".repeat(300)}${MODEL}`,
  `good${MODEL}.part`,
  `good${MODEL}.part.lock`,
] as const;

/** Two spellings that a file system may take for one name: whoever comes second is refused. */
const TWINS = [
  [`model${MODEL}`, `MODEL${MODEL}`],
  [`caf\u00e9${MODEL}`, `cafe\u0301${MODEL}`],
] as const;

class Server {
  private constructor(
    private readonly child: ChildProcess,
    readonly url: URL,
  ) {}

  static async start(models: string, uploads: string): Promise<Server> {
    const child = spawn(process.execPath, [COMMAND, "serve", models, "--uploads", uploads], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    for await (const line of createInterface(child.stderr!)) {
      const [, url] = /(wss?:\/\/\S+)/.exec(line) ?? [];
      if (url) {
        child.stderr!.resume();
        return new Server(child, new URL(url));
      }
    }
    throw new Error("tensorwire serve said no address");
  }

  /** What a plain GET of exactly this path is answered. */
  async ask(path: string): Promise<string> {
    const { hostname, port } = this.url;
    const asking = get({ hostname, port, path, agent: false });
    return new Promise((resolve) => {
      asking.once("response", (response) => {
        response.resume();
        response.once("close", () => resolve(String(response.statusCode)));
      });
      asking.once("error", (error) => resolve(`refused: ${error.message}`));
    });
  }

  async stop(): Promise<void> {
    const exited = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await exited;
  }
}

/** How a client dials, so that a path is asked for as it stands: one that is well-behaved resolves it before. */
const rawPath = (path: string): TransferOptions => ({
  dial: {
    client: {
      finishRequest: (asking) => {
        asking.path = path;
        asking.end();
      },
    },
  },
});

/** Ways to ask for a path, as a client of each does. */
function waysTo(server: URL, path: string): { readonly url: string; readonly options: TransferOptions }[] {
  const ways = [{ url: `ws://${server.host}/`, options: rawPath(path) }];
  const url = `http://${server.host}${path}`;
  // What HTTP's client makes something else of is asked for by the others.
  if (new URL(url).pathname === path) ways.push({ url, options: {} });
  return ways;
}

async function run({ scratch }: FaultOptions): Promise<FaultReport> {
  const at = (name: string): string => join(scratch, name);
  for (const folder of ["models", "models/sub", "uploads", "outside"]) await mkdir(at(folder));
  for (const path of [`secret${MODEL}`, `outside/secret${MODEL}`, `models/good${MODEL}`]) {
    await writeModel(at(path), MIXED.slice(2));
  }
  for (const folder of ["models", "uploads"]) {
    await symlink(at("outside"), at(`${folder}/link`));
    await symlink(at(`secret${MODEL}`), at(`${folder}/linked${MODEL}`));
  }
  const tree = async (): Promise<string[]> => (await readdir(scratch, { recursive: true })).sort();
  const before = await tree();
  const server = await Server.start(at("models"), at("uploads"));
  const counts = new Counts();
  const broken = {
    asked: [] as string[],
    sent: [] as string[],
    twins: [] as string[],
    files: [] as string[],
  };
  const prefix = server.url.pathname;
  let cases = 0;
  try {
    // Of a name that is good, all the ways lead to the model: else their refusals would say nothing.
    for (const { url, options } of waysTo(server.url, `${prefix}good${MODEL}`)) {
      const got = await codeOf(receiveModel(url, { ...options, to: at("taken") }).done);
      if (got !== "done") throw new Error(`${url} gives ${got}`);
      await rm(at("taken"));
    }
    for (const name of HOSTILE) {
      const path = prefix + name;
      const answer = await server.ask(path);
      counts.add(answer.slice(0, 7).trim());
      if (!/^(4\d\d|refused)/.test(answer)) broken.asked.push(`GET ${path}: ${answer.slice(0, 40)}`);
      for (const { url, options } of waysTo(server.url, path)) {
        const sent = await codeOf(streamModel(at(`models/good${MODEL}`), url, options));
        const got = await codeOf(receiveModel(url, { ...options, to: at("taken") }).done);
        counts.add(sent);
        counts.add(got);
        if (sent === "done") broken.sent.push(`${url}, ${path}`);
        if (got === "done") broken.asked.push(`${url}, ${path}`);
        await rm(at("taken"), { force: true });
        cases += 2;
      }
      cases++;
    }
    const after = await tree();
    const made = after.filter((path) => !before.includes(path));
    if (made.length) broken.files.push(`made ${made}`);
    for (const [first, second] of TWINS) {
      const to = (name: string): string => `${server.url.href}${encodeURIComponent(name)}`;
      const codes = [await codeOf(streamModel(at(`models/good${MODEL}`), to(first)))];
      codes.push(await codeOf(streamModel(at(`models/good${MODEL}`), to(second))));
      cases += 2;
      if (codes[0] !== "done" || codes[1] === "done") broken.twins.push(`${first}, ${second}: ${codes}`);
    }
  } finally {
    await server.stop();
  }
  return {
    rows: [["answer", "times"], ...counts.rows()],
    verdicts: [
      never("nobody reads by a name that leads elsewhere", broken.asked, cases),
      never("nobody writes by one", broken.sent, cases),
      never(
        "names that differ only in case or normalization are one: the second is refused",
        broken.twins,
        4,
      ),
      never("nothing was made anywhere", broken.files, cases),
    ],
  };
}

async function codeOf(transfer: Promise<unknown>): Promise<string> {
  try {
    await transfer;
    return "done";
  } catch (error) {
    return error instanceof TensorwireError ? error.code : `not ours: ${error}`;
  }
}

export const names: FaultKind = {
  name: "names",
  about: "names that lead out of the folder of a real server, or are one on some file systems",
  run,
};
