import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { readProcStatus } from "../memory/proc-status.js";
import type { CrowdSize, Order, PeersTask, ServerRole, ServerTask, Word } from "./budget/job.js";

export type { CrowdSize, ServerRole } from "./budget/job.js";

const MiB = 2 ** 20;

/** 64 transfers, half of them slow, in 256 MiB. */
export const CROWD: CrowdSize = {
  transfers: 64,
  slow: 32,
  budgetBytes: 256 * MiB,
  windowBytes: 8 * MiB,
  chunkBytes: MiB,
  modelBytes: 12 * MiB,
};

/** What a crowd did to the server. */
export interface CrowdReport {
  /** Whatever failed, at either end. */
  readonly errors: readonly string[];
  /** Fast transfers that were over while every slow one still ran. */
  readonly fastFirst: number;
  /** The server's resident set after one transfer, and the most it ever was. */
  readonly baseBytes: number;
  readonly peakBytes: number;
  /** The most that was reserved of the budget at any time, and what is at the end. */
  readonly mostReservedBytes: number;
  readonly reservedBytes: number;
}

/** One of the two processes: what it says is kept until somebody waits for it. */
class Program {
  readonly #words: Word[] = [];
  #wake: () => void = () => {};
  #exit: string | undefined;

  constructor(readonly child: ChildProcess) {
    child.on("message", (word: Word) => {
      this.#words.push(word);
      this.#wake();
    });
    child.on("exit", (code, signal) => {
      this.#exit = `a process of the crowd ended with ${signal ?? code}`;
      this.#wake();
    });
  }

  static start(name: string, task: ServerTask | PeersTask): Program {
    const path = fileURLToPath(new URL(`./budget/${name}.js`, import.meta.url));
    return new Program(fork(path, [JSON.stringify(task)], { execArgv: [] }));
  }

  order(order: Order): void {
    this.child.send(order);
  }

  /** The next word of that kind; others are kept. */
  async word<Kind extends Word["kind"]>(kind: Kind): Promise<Extract<Word, { kind: Kind }>> {
    for (;;) {
      const at = this.#words.findIndex((word) => word.kind === kind);
      if (at >= 0) return this.#words.splice(at, 1)[0] as Extract<Word, { kind: Kind }>;
      if (this.#exit !== undefined) throw new Error(this.#exit);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  end(): void {
    this.child.disconnect();
  }
}

/**
 * Many transfers at once in one process, some of them slow, under one budget. The slow ones begin first, take what they can,
 * and stand still half way until all the others are over: those that are held up by them never are.
 */
export async function crowd(size: CrowdSize, role: ServerRole, scratch: string): Promise<CrowdReport> {
  const server = Program.start("server", { ...size, role, scratch });
  let peers: Program | undefined;
  try {
    const { url } = await server.word("ready");
    peers = Program.start("peers", { ...size, role, url: url! });
    await peers.word("ready");
    const one = { kind: "begin", transfers: 1, slow: 0 } as const;
    server.order(one);
    peers.order(one);
    const first = await peers.word("done");
    await server.word("idle");
    const baseBytes = readProcStatus(server.child.pid!)!.rssBytes;

    const { transfers, slow } = size;
    server.order({ kind: "begin", transfers, slow });
    peers.order({ kind: "begin", transfers: slow, slow });
    for (let i = 0; i < slow; i++) await peers.word("stalled");
    peers.order({ kind: "begin", transfers: transfers - slow, slow: 0 });
    const over = [first];
    let fastFirst = 0;
    for (let i = slow; i < transfers; i++) {
      const done = await peers.word("done");
      over.push(done);
      if (!done.slow && done.error === undefined) fastFirst++;
    }
    peers.order({ kind: "release" });
    for (let i = 0; i < slow; i++) over.push(await peers.word("done"));
    const { errors, reservedBytes, mostReservedBytes } = await server.word("idle");
    const { peakBytes } = readProcStatus(server.child.pid!)!;
    return {
      errors: [...over.flatMap(({ error }) => error ?? []), ...errors],
      fastFirst,
      baseBytes,
      peakBytes,
      mostReservedBytes,
      reservedBytes,
    };
  } finally {
    server.end();
    peers?.end();
  }
}
