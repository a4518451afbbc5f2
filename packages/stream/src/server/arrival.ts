import { type Manifest, TensorwireError } from "@tensorwire/core";
import { isInterruption } from "../session/interruption.js";
import type { TransferSummary } from "../session/summary.js";
import type { EncodedSink } from "../sink/sink.js";
import type { CollectedModel } from "./collected-model.js";
import { type Count, countedSink } from "./counted-sink.js";
import { receiveUpload, type TransferOfPeer, type TransferTerms } from "./served-transfer.js";

/** How it stands with a client of a round. */
export interface ClientStatus {
  /** Its name. */
  readonly client: string;
  /** `interrupted`: what has arrived waits for the rest of it. */
  readonly state: "arriving" | "interrupted" | "arrived" | "failed";
  /** Of the model's bytes, as far as they are known: 0 to 100. */
  readonly percent: number;
  /** Source bytes that have arrived. */
  readonly sourceBytes: number;
  /** Source bytes of its model, once that is announced. */
  readonly totalBytes: number;
  /** Why the last upload ended, where it did not arrive. */
  readonly error?: TensorwireError | undefined;
}

interface Upload {
  readonly stop: AbortController;
  /** It is over, either way, and so are those before it. */
  settled: Promise<void>;
}

/** One client's upload in a round, over all its attempts. */
export class Arrival {
  model: CollectedModel | undefined;
  /** There is a part of it, from an earlier attempt. */
  left = false;
  #upload: Upload | undefined;
  /** Of the last upload. */
  #count: Count = { sourceBytes: 0, totalBytes: 0 };
  #error: TensorwireError | undefined;

  constructor(readonly client: string) {}

  /** Nothing is known of it but that it has failed. */
  get forgettable(): boolean {
    return !this.model && !this.left && !this.#upload;
  }

  /**
   * Takes an upload, in the place of one that may still be under way: a client that comes again has lost the connection of that,
   * though this side need not have noticed.
   */
  async receive(
    transfer: TransferOfPeer,
    terms: TransferTerms,
    to: (manifest: Manifest) => Promise<EncodedSink>,
  ): Promise<TransferSummary> {
    const earlier = this.#upload;
    const upload: Upload = { stop: new AbortController(), settled: Promise.resolve() };
    this.#upload = upload;
    earlier?.stop.abort(new TensorwireError("ABORTED", "the client has connected again"));
    const { signal: force } = terms.options;
    const stop = (): void => upload.stop.abort(force!.reason);
    if (force?.aborted) stop();
    force?.addEventListener("abort", stop, { once: true });
    const { signal } = upload.stop;
    const done = receiveUpload(transfer, terms, {
      signal,
      to: async (manifest) => {
        await earlier?.settled;
        const count = { sourceBytes: 0, totalBytes: 0 };
        this.#count = count;
        return countedSink(await to(manifest), count);
      },
    });
    upload.settled = Promise.allSettled([done, earlier?.settled]).then(() => {});
    try {
      const summary = await done;
      this.#error = undefined;
      return summary;
    } catch (error) {
      if (this.#upload === upload) this.#failed(error as TensorwireError);
      throw error;
    } finally {
      force?.removeEventListener("abort", stop);
      if (this.#upload === upload) this.#upload = undefined;
    }
  }

  #failed(error: TensorwireError): void {
    this.#error = error;
    this.left = isInterruption(error) && this.#count.sourceBytes > 0;
  }

  /** Ends an upload that is under way, and waits until it is over. */
  async cut(reason: TensorwireError): Promise<void> {
    this.#upload?.stop.abort(reason);
    await this.#upload?.settled;
  }

  status(): ClientStatus {
    const { client, model } = this;
    const { sourceBytes, totalBytes } = this.#count;
    const part = totalBytes === 0 ? 0 : (100 * sourceBytes) / totalBytes;
    const state = model ? "arrived" : this.#upload ? "arriving" : this.left ? "interrupted" : "failed";
    const error = state === "arrived" || state === "arriving" ? undefined : this.#error;
    return { client, state, percent: model ? 100 : part, sourceBytes, totalBytes, error };
  }
}
