import { existsSync } from "node:fs";
import { copyFile, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { StreamOptions } from "@tensorwire/stream";
import { type Arrangement, placeOf, socketPath, urlAt } from "../arrangement.js";
import type { Certificate } from "../certificate.js";
import type { Draws } from "../draws.js";
import { FaultyWire } from "../faulty-wire.js";
import { type Change, changeSource } from "./change.js";
import { TransferEnd } from "./end-process.js";
import { type Attempt, readLedger } from "./measured-channel.js";

/** Who is killed: `kill -9` of a process, or the connection between them. */
export type Victim = "sender" | "receiver" | "connection";

export interface TrialPlan {
  readonly name: string;
  readonly arrangement: Arrangement;
  /** What the sender is told; its window is the receiver's too. */
  readonly options: StreamOptions & { readonly windowBytes: number; readonly chunkBytes: number };
  /** The ends reconnect by themselves, and only one that was killed is started again. */
  readonly retries: boolean;
  readonly change: Change;
  readonly interruptions: number;
  readonly source: string;
  readonly sourceBytes: number;
  /** Of an undisturbed transfer, on the wire. */
  readonly wireBytes: number;
  readonly scratch: string;
  readonly certificate: Certificate | undefined;
}

export interface TrialResult {
  readonly interruptions: readonly Victim[];
  /** Source bytes that were sent again, of each interruption of which that is known. */
  readonly sentAgain: readonly number[];
  readonly resumedBytes: number;
  readonly broken: readonly string[];
}

/** No step of a trial takes nearly as long, on any machine. */
const PATIENCE_MS = 120_000;
const FAREWELL_MS = 4000;
const RETRY = { attempts: 1000, initialDelayMs: 20, maxDelayMs: 200 };

/** One transfer that is interrupted again and again, until it is through. */
export class Trial {
  readonly target: string;
  readonly #folder: string;
  readonly #source: string;
  readonly #ends = new Map<"sender" | "receiver", TransferEnd>();
  readonly #interruptions: Victim[] = [];
  readonly #broken: string[] = [];
  #wire!: FaultyWire;
  #resumed = 0;
  #changed = false;
  #sender = 0;
  #onPassed: (() => void) | undefined;
  /** To the receiver, in this attempt and in all. */
  #passed = { now: 0, all: 0 };

  constructor(
    private readonly plan: TrialPlan,
    private readonly draws: Draws,
  ) {
    this.#folder = join(plan.scratch, plan.name.replaceAll(/\W+/g, "-"));
    this.target = join(this.#folder, "target", "model.safetensors");
    this.#source = plan.change === "nothing" ? plan.source : join(this.#folder, "source.safetensors");
  }

  get source(): string {
    return this.#source;
  }

  async run(): Promise<TrialResult> {
    await mkdir(join(this.#folder, "target"), { recursive: true });
    if (this.#source !== this.plan.source) await copyFile(this.plan.source, this.#source);
    const { channel } = this.plan.arrangement;
    const path = channel === "unix" ? socketPath(this.#folder, "w") : undefined;
    // Nobody is there yet: connections that come too early are refused, as anywhere.
    this.#wire = await FaultyWire.open({ to: { host: "127.0.0.1", port: 1 }, path });
    const toReceiver = this.plan.arrangement.listens === "receiver" ? "to listener" : "to dialer";
    this.#wire.onPassed = (way, bytes) => {
      if (way !== toReceiver) return;
      this.#passed.now += bytes;
      this.#passed.all += bytes;
      this.#onPassed?.();
    };
    try {
      await this.#attempts();
      await this.#tidy();
      return {
        interruptions: this.#interruptions,
        sentAgain: this.#sentAgain(),
        resumedBytes: this.#resumed,
        broken: this.#broken,
      };
    } finally {
      for (const end of this.#ends.values()) {
        end.kill();
        await end.exited;
      }
      await this.#wire.close();
    }
  }

  async remove(): Promise<void> {
    await rm(this.#folder, { recursive: true });
  }

  async #attempts(): Promise<void> {
    const { interruptions } = this.plan;
    for (let attempt = 0; ; attempt++) {
      if (attempt > interruptions + 8) return void this.#broken.push("it comes to no end");
      await this.#start();
      const left = this.#interruptions.length < interruptions;
      const came = await this.#await(left ? this.#moment() : new Promise<never>(() => {}));
      if (came === "hung") return void this.#broken.push("a step takes for ever");
      if (came === "moment") await this.#interrupt();
      if (existsSync(this.target)) return;
      if (came === "ended") this.#examine();
    }
  }

  /** Starts whichever end is not there; the one that is dialled first. */
  async #start(): Promise<void> {
    const { listens, channel } = this.plan.arrangement;
    const dials = listens === "sender" ? "receiver" : "sender";
    this.#passed.now = 0;
    if (this.#missing(listens)) {
      const end = this.#begin(listens, undefined);
      const url = await Promise.race([end.listening, sleep(PATIENCE_MS, undefined, { ref: false })]);
      if (url) this.#wire.to = placeOf(url);
    }
    if (this.#missing(dials)) this.#begin(dials, urlAt(channel, this.#wire.place));
  }

  #missing(role: "sender" | "receiver"): boolean {
    return this.#ends.get(role)?.gone ?? true;
  }

  #begin(role: "sender" | "receiver", dial: string | undefined): TransferEnd {
    const { options, arrangement, certificate, retries } = this.plan;
    const receiving = { windowBytes: options.windowBytes };
    const end = new TransferEnd({
      role,
      file: role === "sender" ? this.#source : this.target,
      channel: arrangement.channel,
      dial,
      path: socketPath(this.#folder, "l"),
      certificate,
      options: { ...(role === "sender" ? options : receiving), ...(retries && { retry: RETRY }) },
      // What a sender that reconnects has sent is in its summary.
      ...(role === "sender" && !retries && { ledger: this.#ledger(this.#sender++) }),
    });
    this.#ends.set(role, end);
    return end;
  }

  #ledger(number: number): string {
    return join(this.#folder, `ledger-${number}`);
  }

  /** Resolves at a moment that chance chooses: after some bytes, some time, or when nearly all has passed. */
  #moment(): Promise<void> {
    const { draws } = this;
    const { wireBytes, interruptions } = this.plan;
    if (draws.oneIn(8)) return sleep(draws.between(0, 400));
    const share = (wireBytes * 1.6) / (interruptions + 1);
    const late = draws.oneIn(8);
    const at = late ? wireBytes * (0.98 + draws.below(50) / 1000) : draws.below(share);
    return new Promise((resolve) => {
      this.#onPassed = () => {
        if ((late ? this.#passed.all : this.#passed.now) >= at) resolve();
      };
    });
  }

  async #await(moment: Promise<void>): Promise<"moment" | "ended" | "hung"> {
    const over = new AbortController();
    const ends = [...this.#ends.values()].map((end) => end.exited);
    try {
      return await Promise.race([
        moment.then(() => "moment" as const),
        // A receiver that is done decides; a sender that tries again has nobody to try.
        this.#ends.get("receiver")!.exited.then(() => this.#farewell()),
        Promise.all(ends).then(() => "ended" as const),
        sleep(PATIENCE_MS, "hung" as const, { signal: over.signal }),
      ]);
    } finally {
      over.abort();
      this.#onPassed = undefined;
    }
  }

  /** The receiver is gone: the sender learns of it, and ends, or looks for the next one. */
  async #farewell(): Promise<"ended"> {
    await Promise.race([this.#ends.get("sender")!.exited, sleep(FAREWELL_MS, undefined, { ref: false })]);
    return "ended";
  }

  async #interrupt(): Promise<void> {
    const victim = this.draws.pick(["sender", "receiver", "connection"] as const);
    // What is whole already cannot be interrupted.
    if (existsSync(this.target)) return void (await this.#farewell());
    this.#interruptions.push(victim);
    if (victim === "connection") this.#wire.cut();
    else {
      this.#ends.get(victim)!.kill();
      await this.#ends.get(victim)!.exited;
    }
    if (this.plan.retries) return;
    // The other one learns of it by itself, or waits for somebody to dial.
    await Promise.race([
      Promise.all([...this.#ends.values()].map((end) => end.exited)),
      sleep(FAREWELL_MS, undefined, { ref: false }),
    ]);
    // Of a model that is through, no attempt is left that could see the change.
    const open = this.#missing("sender") && !existsSync(this.target);
    if (open && !this.#changed && this.plan.change !== "nothing") {
      this.#changed = true;
      await changeSource(this.#source, this.plan.change, this.draws);
    }
  }

  /** Ends that have given up, without anybody's doing, say why. */
  #examine(): void {
    for (const [role, { result }] of this.#ends) {
      if (result?.is === "failed" && !EXPECTED.has(result.code)) {
        this.#broken.push(`the ${role} failed with ${result.code}: ${result.message}`);
      }
    }
  }

  async #tidy(): Promise<void> {
    await this.#farewell();
    const { result } = this.#ends.get("receiver")!;
    if (result?.is === "done") this.#resumed = result.summary.resumedBytes;
    for (const end of this.#ends.values()) {
      end.kill();
      await end.exited;
    }
    if (!existsSync(this.target)) return;
    const left = async (): Promise<string[]> =>
      (await readdir(join(this.#folder, "target"))).filter((name) => name !== "model.safetensors");
    const strays = await left();
    // A receiver that was killed between giving the file its name and clearing up is cleared up after by the next one.
    if (strays.length && result === undefined) this.#unfinished = true;
    else if (strays.length) this.#broken.push(`it left ${strays}`);
  }

  #unfinished = false;
  /** The receiver was killed when the file had its name, and had not cleared up. */
  get unfinished(): boolean {
    return this.#unfinished;
  }

  /** What each interruption took back, by what the next attempt was asked for. */
  #sentAgain(): number[] {
    const { sourceBytes, options, retries, change } = this.plan;
    if (change !== "nothing") return [];
    if (retries) return this.#sentAgainByRetries();
    const attempts: Attempt[] = [];
    for (let i = 0; i < this.#sender; i++) {
      const ledger = this.#ledger(i);
      if (existsSync(ledger)) attempts.push(...readLedger(ledger));
    }
    return attempts.slice(1).map(({ wanted }, i) => {
      const before = attempts[i]!;
      const reached = sourceBytes - before.wanted * options.chunkBytes + before.sent;
      return reached - (sourceBytes - wanted * options.chunkBytes);
    });
  }

  /** Of a sender that was never killed: everything that it sent twice, over how often it was interrupted. */
  #sentAgainByRetries(): number[] {
    const { result } = this.#ends.get("sender")!;
    if (result?.is !== "done" || this.#sender > 0) return [];
    const { codecs, sourceBytes, resumedBytes, retries } = result.summary;
    if (!retries) return [];
    const sent = Object.values(codecs).reduce((sum, codec) => sum + codec.sourceBytes, 0);
    return [(sent - (sourceBytes - resumedBytes)) / retries];
  }

  async sameAs(path: string): Promise<boolean> {
    if (!existsSync(this.target)) return false;
    const [got, expected] = await Promise.all([readFile(this.target), readFile(path)]);
    return got.equals(expected);
  }
}

/** What an end that nobody has killed may say of another that somebody has. */
const EXPECTED: ReadonlySet<string> = new Set([
  "CHANNEL_CLOSED",
  "CHANNEL_OPEN",
  "PEER_FAILED",
  "IDLE_TIMEOUT",
  "ABORTED",
]);
