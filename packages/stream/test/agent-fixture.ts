import { request } from "node:http";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Readable, pipeline } from "node:stream";
import { afterEach, beforeEach } from "vitest";
import { CliProcess } from "./cli-process.js";

export let folder: string;
export const at = (...names: string[]): string => join(folder, ...names);
const agents = new Set<AgentProcess>();

/** Registers a folder of each test's own, and ends the test's agents. */
export function hasAgents(): void {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "tensorwire-agent-"));
  });
  afterEach(async () => {
    await Promise.all([...agents].map((agent) => agent.kill()));
    agents.clear();
    await rm(folder, { recursive: true });
  });
}

/** What an agent answers: the tests are about its shape. */
// biome-ignore lint/suspicious/noExplicitAny: as above
export type Json = Record<string, any>;

export interface Answer {
  readonly status: number;
  readonly bytes: Buffer;
  readonly json: Json;
}

export interface Ask {
  readonly body?: unknown;
  readonly stream?: Readable;
  readonly headers?: Record<string, string>;
}

/** A `tensorwire agent`, and a program that talks to it. */
export class AgentProcess {
  private constructor(
    readonly name: string,
    readonly process: CliProcess,
    readonly local: string,
    /** Where other agents reach it, if it is a home. */
    readonly url: string | undefined,
    public token: string | undefined,
  ) {}

  /** Its directory has its name: started again, it is the same one. */
  static async start(name: string, args: readonly string[] = [], token?: string): Promise<AgentProcess> {
    const process = new CliProcess(["agent", "--directory", at(name), ...args]);
    const url = args.includes("--listen") ? await process.url() : undefined;
    const [, local] = await process.saw(/agent on (\S+)\n/);
    const agent = new AgentProcess(name, process, local!, url, token);
    agents.add(agent);
    return agent;
  }

  exchange(file: string): string {
    return at(this.name, "exchange", file);
  }

  /** Files of the agent's own: models, and what is to become one. */
  async kept(): Promise<string[]> {
    return (await readdir(this.exchange(".models"))).filter((name) => !name.startsWith("."));
  }

  /** What a program sees in the exchange directory. */
  async seen(): Promise<string[]> {
    return (await readdir(this.exchange("."))).filter((name) => !name.startsWith("."));
  }

  async kill(): Promise<void> {
    this.process.child.kill("SIGKILL");
    await this.process.ended;
  }

  ask(method: string, path: string, { body, stream, headers }: Ask = {}): Promise<Answer> {
    const place = this.local.startsWith("unix:")
      ? { socketPath: this.local.slice(5) }
      : { host: "127.0.0.1", port: Number(new URL(this.local).port) };
    return new Promise((resolve, reject) => {
      const asked = request(
        {
          ...{ ...place, method, path, agent: false },
          headers: {
            ...(body !== undefined && { "content-type": "application/json" }),
            ...(this.token !== undefined && { authorization: `Bearer ${this.token}` }),
            ...headers,
          },
        },
        (response) => {
          const pieces: Buffer[] = [];
          response.on("data", (piece) => pieces.push(piece));
          response.on("error", reject);
          response.on("end", () => {
            const bytes = Buffer.concat(pieces);
            const json = /json/.test(response.headers["content-type"] ?? "") ? JSON.parse(String(bytes)) : {};
            resolve({ status: response.statusCode!, bytes, json });
          });
        },
      );
      asked.on("error", reject);
      if (stream) pipeline(stream, asked, () => {});
      else asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** The transfer when it is over. */
  async over({ json }: Answer): Promise<Json> {
    if (json.error && !json.id) return json;
    for (;;) {
      const { json: transfer } = await this.ask("GET", `/v1/transfers/${json.id}?wait=30`);
      if (transfer.state !== "running") return transfer;
    }
  }

  async publish(name: string, path: string, more: object = {}): Promise<Json> {
    return this.over(await this.ask("POST", "/v1/models", { body: { name, path, ...more } }));
  }

  async fetch(ref: unknown, more: object = {}): Promise<Json> {
    return this.over(await this.ask("POST", "/v1/fetches", { body: { ref, ...more } }));
  }

  async status(): Promise<Json> {
    return (await this.ask("GET", "/v1/status")).json;
  }
}
