import { asTensorwireError, TensorwireError } from "@tensorwire/core";
import { setMaxListeners } from "node:events";
import type { ProgressEvent } from "../session/progress.js";
import { abortError } from "../session/transfer.js";
import type { TellAgent } from "./agent-event.js";
import { faultOf, type TransferRecord } from "./transfer-record.js";

/** What a transfer has come to. */
export type Outcome = Partial<
  Pick<TransferRecord, "ref" | "path" | "owned" | "held" | "sourceBytes" | "totalBytes" | "wireBytes">
>;

/** What whoever moves a model is given. */
export interface MoveContext {
  readonly signal: AbortSignal;
  /** It was under way already when the agent was started. */
  readonly resumed: boolean;
  progress(event: ProgressEvent): void;
  /** Does so when the outcome outlasts the process, and not if there is none. */
  afterwards(work: () => Promise<void>): void;
  /** It goes on trying; undefined: it moves again. */
  interrupted(error: TensorwireError | undefined): void;
}

export type Move = (record: TransferRecord, context: MoveContext) => Promise<Outcome>;

/** Takes back what a transfer leaves that has come to nothing, by that error. Never rejects. */
export type Undo = (record: TransferRecord, error: TensorwireError) => Promise<void>;

/** Causes of one interruption that are told apart. */
const MAX_CAUSES = 8;

/** One transfer of an agent, as long as it is not forgotten. */
export class AgentTransfer {
  readonly #abort = new AbortController();
  /** The agent ends: what is under way goes on when it is started again. */
  #leaving = false;
  #over: Promise<void> = Promise.resolve();
  /** What has interrupted it since it moved last, as far as that was told. */
  readonly #causes = new Set<string>();

  constructor(
    public record: TransferRecord,
    private readonly save: (record: TransferRecord) => Promise<void>,
    private readonly tell: TellAgent,
  ) {
    setMaxListeners(0, this.#abort.signal);
  }

  /** Resolves when it is over; never rejects. */
  get over(): Promise<void> {
    return this.#over;
  }

  /** Records it, and goes on without the caller. @throws TensorwireError of the disk: then it has never begun. */
  async begin(move: Move, undo: Undo): Promise<void> {
    const recorded = this.save(this.record);
    // Whoever cancels it meanwhile waits for what comes of that.
    this.#over = recorded.then(
      () => this.#run(move, undo, false),
      () => {},
    );
    await recorded;
  }

  /** What was under way when an earlier process died. */
  resume(move: Move, undo: Undo): void {
    this.#over = this.#run(move, undo, true);
  }

  async #run(move: Move, undo: Undo, resumed: boolean): Promise<void> {
    const { signal } = this.#abort;
    const began = performance.now();
    let end: Partial<TransferRecord>;
    let afterwards = async (): Promise<void> => {};
    try {
      signal.throwIfAborted();
      const outcome = await move(this.record, {
        signal,
        resumed,
        afterwards: (work) => {
          afterwards = work;
        },
        progress: ({ totalBytes, acknowledgedBytes, wireBytes }) =>
          this.#set({ totalBytes, sourceBytes: acknowledgedBytes, wireBytes }),
        interrupted: (error) => this.#interrupted(error),
      });
      end = { ...outcome, state: "done", error: undefined };
    } catch (cause) {
      if (this.#leaving) return;
      const error = asTensorwireError(cause, "INTERNAL");
      const state = signal.aborted ? "cancelled" : "failed";
      afterwards = async () => {};
      await undo(this.record, error);
      end = { state, error: faultOf(error) };
    }
    try {
      // Before anybody hears of it: a program may free at once what it hears of, and a later process would make it again.
      await this.save({ ...this.record, ...end });
      await afterwards();
    } catch {
      // Where the disk refuses the record there still is a program that waits for an answer.
    }
    this.#set(end);
    this.tell({ event: "over", record: this.record, seconds: (performance.now() - began) / 1000 });
  }

  #interrupted(error: TensorwireError | undefined): void {
    this.#set({ error: error && faultOf(error) });
    if (!error) return this.#causes.clear();
    const cause = `${error.code} ${error.message}`;
    if (this.#causes.has(cause) || this.#causes.size >= MAX_CAUSES) return;
    this.#causes.add(cause);
    this.tell({ event: "interrupted", record: this.record, error });
  }

  #set(change: Partial<TransferRecord>): void {
    this.record = { ...this.record, ...change };
  }

  /** It is over, or so many milliseconds are. */
  async wait(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([this.#over, late]);
    clearTimeout(timer);
  }

  async cancel(): Promise<void> {
    this.#abort.abort(
      new TensorwireError("ABORTED", "the transfer was cancelled by a program of this machine"),
    );
    await this.#over;
  }

  async leave(): Promise<void> {
    this.#leaving = true;
    this.#abort.abort(abortError("the agent ends"));
    await this.#over;
  }
}
