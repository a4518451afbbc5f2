import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  delta,
  type Manifest,
  type ModelSource,
  receiveModel,
  streamModel,
  TensorwireError,
  type TransferOptions,
  type TransferSummary,
  tensorsSource,
} from "@tensorwire/stream";
import { MIN_ELEMENTS, MODEL, type Position, positionIn, type Updates, updateName } from "./agreement.js";
import { Chance } from "./chance.js";
import { Classifier } from "./classifier.js";
import type { Digits } from "./digits.js";

export interface ParticipantOptions {
  /** Of the server: what the names of its models stand behind. */
  readonly url: string;
  readonly dial: TransferOptions["dial"];
  /** As the server knows this client by its token. */
  readonly name: string;
  readonly digits: Digits;
  /** Where it keeps the model of the round, and what was left out of its updates. */
  readonly folder: string;
  /** Of its updates. */
  readonly codec: string;
  /** Whether what the codec leaves out of an update is added to the next one. */
  readonly feedback: boolean;
  readonly updates: Updates;
  readonly seed: number;
}

/** What a client has done in a round. */
export interface Contribution {
  readonly round: number;
  readonly examples: number;
  /** How the model came. */
  readonly received: TransferSummary;
  /** How the update went; undefined where the round was not open. */
  readonly sent: TransferSummary | undefined;
}

/** The model that a round begins with. */
interface RoundModel extends Position {
  readonly received: TransferSummary;
}

/** Between two looks whether there is something new. */
const PAUSE_MS = 100;

/** The client's side: it gets the model, trains it on digits that never leave it, and sends by how much it has changed. */
export class Participant {
  readonly #classifier: Classifier;
  /** The model of the round, as it travelled: the base of the update. */
  readonly #base: string;

  private constructor(private readonly options: ParticipantOptions) {
    this.#classifier = new Classifier(options.seed);
    this.#base = join(options.folder, "model.twire");
  }

  static async open(options: ParticipantOptions): Promise<Participant> {
    await mkdir(options.folder, { recursive: true });
    return new Participant(options);
  }

  /** Takes part until the model of the last round is there. */
  async *rounds(): AsyncGenerator<Contribution> {
    for (let model = await this.#modelAfter(-1); model.round < model.rounds; ) {
      const contribution = await this.#contribute(model);
      yield contribution;
      // The round may not have been over, but not yet open, or be open again.
      model = await this.#modelAfter(contribution.sent ? model.round : model.round - 1);
    }
  }

  /** The next model after that of a round: waits for it, and for the server too. */
  async #modelAfter(round: number): Promise<RoundModel> {
    const { url, dial } = this.options;
    for (;;) {
      const known = new AbortController();
      let position: Position | undefined;
      const to = ({ metadata }: Manifest): string => {
        position = positionIn(metadata);
        if (position.round <= round) known.abort();
        return this.#base;
      };
      try {
        const model = receiveModel(url + MODEL, { dial, to, overwrite: true, signal: known.signal });
        const received = await model.done;
        return { ...position!, received };
      } catch (error) {
        if (!known.signal.aborted && !isPassing(error) && !hasCode(error, ["NOT_FOUND"])) throw error;
      }
      await sleep(PAUSE_MS);
    }
  }

  async #contribute({ round: last, received }: RoundModel): Promise<Contribution> {
    const { name, digits, seed } = this.options;
    const round = last + 1;
    await this.#classifier.load(receiveModel(this.#base));
    await this.#classifier.train(digits, round, new Chance(seed, name, round));
    return { round, examples: digits.labels.length, received, sent: await this.#send(round) };
  }

  /** Undefined where the round is not open, or is closed meanwhile. */
  async #send(round: number): Promise<TransferSummary | undefined> {
    const { url, dial, name, folder, codec, feedback } = this.options;
    for (;;) {
      try {
        return await streamModel(await this.#update(), url + updateName(round, name), {
          ...{ dial, codec, minElements: MIN_ELEMENTS, retry: true },
          ...(feedback && { residuals: join(folder, "residuals") }),
        });
      } catch (error) {
        if (hasCode(error, ["FORBIDDEN", "ABORTED"])) return undefined;
        if (!isPassing(error)) throw error;
      }
      await sleep(PAUSE_MS);
    }
  }

  async #update(): Promise<ModelSource> {
    const { digits, updates } = this.options;
    const metadata = { num_examples: String(digits.labels.length) };
    const model = tensorsSource(await this.#classifier.weights(), { metadata });
    return updates === "model" ? model : delta(model, this.#base);
  }
}

const hasCode = (error: unknown, codes: readonly string[]): boolean =>
  error instanceof TensorwireError && codes.some((code) => code === error.code || code === error.peerCode);

/** The server is away, or busy: later it may not be. */
const isPassing = (error: unknown): boolean => error instanceof TensorwireError && error.retryable;
