import { asTensorwireError, TensorwireError } from "@tensorwire/core";
import { hostOf } from "../channel/peer.js";
import type { PublicPeer, Visitor } from "../door/gate.js";
import { hasRight } from "../door/principal.js";
import type { TransferSummary } from "../session/summary.js";
import type { Collections } from "./collections.js";
import { nameInPath } from "./model-path.js";
import { isPlain } from "./plain-get.js";
import type { Publication, Publications } from "./publications.js";
import { type Answered, answerFile, type Exchange, type ServedFile } from "./ranged-answer.js";
import type { ServedPeer } from "./reception.js";
import type { Seat, Seats } from "./seats.js";
import {
  receiveUpload,
  sendPublication,
  type TransferOfPeer,
  type TransferTerms,
} from "./served-transfer.js";
import { wishOf } from "./wish.js";

/** A transfer of a server, as its events tell of it. */
export interface ServedTransfer {
  /** Of this server: 1, 2, … */
  readonly id: number;
  /** `fetch`: the peer has asked for a published model. `upload`: it sends one. */
  readonly direction: "fetch" | "upload";
  /** Of the model. */
  readonly name: string;
  /** Who is at the other end. */
  readonly peer: ServedPeer;
  /** Resolves when the transfer is over, and rejects with what ended it. */
  readonly done: Promise<TransferSummary>;
}

/** An artifact, or a part of it, that was sent to who asked by HTTP alone. */
export interface ServedAnswer extends Answered {
  /** Of the model. */
  readonly name: string;
  /** Who asked. */
  readonly peer: ServedPeer;
}

/** What visits need of their server. */
export interface Host {
  readonly prefix: string;
  /** As errors call the model of that name. */
  readonly called: (name: string) => string;
  readonly publications: Publications;
  readonly collections: Collections;
  readonly seats: Seats;
  readonly terms: TransferTerms;
  begun(transfer: Omit<ServedTransfer, "id">): void;
  answered(answer: ServedAnswer): void;
  refused(error: TensorwireError, peer: PublicPeer): void;
}

/** What is being done for peers, from when they were let in. */
export class Visits {
  readonly #visits = new Set<Promise<void>>();

  constructor(private readonly host: Host) {}

  get size(): number {
    return this.#visits.size;
  }

  receive(visitor: Visitor): void {
    const visit = this.#serve(visitor);
    this.#visits.add(visit);
    void visit.finally(() => this.#visits.delete(visit));
  }

  /** All of them are over, and those that have come meanwhile. */
  async over(): Promise<void> {
    while (this.#visits.size > 0) await Promise.allSettled(this.#visits);
  }

  /** Never rejects. */
  async #serve(visitor: Visitor): Promise<void> {
    const { host } = this;
    const peer: ServedPeer = { ...visitor.peer, principal: visitor.principal };
    let seat: Seat | undefined;
    let publication: Publication | undefined;
    try {
      const name = nameInPath(peer.path ?? "", host.prefix);
      const direction = await this.#direction(visitor, name);
      this.#checkRight(visitor, direction, name);
      seat = host.seats.take(keyOf(peer));
      const transfer: TransferOfPeer = { visitor, name, peer, seat };
      let done: Promise<TransferSummary>;
      if (direction === "upload") done = this.#receive(transfer);
      else {
        publication = await host.publications.get(name, wishOf(peer.query, visitor.hello));
        if (isPlain(visitor) && publication.file) {
          const answered = await this.#answer(visitor.exchange, await publication.file());
          if (answered) host.answered({ name, peer, ...answered });
          return;
        }
        if (isPlain(visitor) && visitor.exchange.request.method === "HEAD")
          return refuseHead(visitor.exchange);
        done = sendPublication(transfer, publication, host.terms);
      }
      host.begun({ direction, name, peer, done });
      await done.catch(() => {});
    } catch (cause) {
      const error = asTensorwireError(cause, "INTERNAL");
      host.refused(error, visitor.peer);
      return visitor.refuse(error);
    } finally {
      seat?.leave();
      publication?.leave?.();
    }
  }

  #receive(transfer: TransferOfPeer): Promise<TransferSummary> {
    const { collections, terms } = this.host;
    const collection = collections.of(transfer.name);
    return collection ? collection.receive(transfer, terms) : receiveUpload(transfer, terms);
  }

  /** Parts of a file are no transfer: whoever asks for them puts them together. Undefined where the peer went away. */
  async #answer(exchange: Exchange, file: ServedFile): Promise<Answered | undefined> {
    const { response } = exchange;
    const { signal, maxBytesPerSecond } = this.host.terms.options;
    const cut = (): void => void response.destroy();
    signal?.addEventListener("abort", cut, { once: true });
    try {
      return await answerFile(exchange, file, maxBytesPerSecond);
    } catch (cause) {
      if (!response.headersSent) throw cause;
      response.destroy();
      return undefined;
    } finally {
      signal?.removeEventListener("abort", cut);
    }
  }

  /** What the peer came for. One that does not say gets what is published, and sends what is not. */
  async #direction({ hello, principal }: Visitor, name: string): Promise<ServedTransfer["direction"]> {
    if (hello.role === "any") {
      // Who may not have a model does not learn, by what is refused, whether it is there.
      const there = hasRight(principal, "fetch", name) && (await this.host.publications.has(name));
      return there ? "fetch" : "upload";
    }
    return hello.role === "receive" ? "fetch" : "upload";
  }

  #checkRight({ principal }: Visitor, direction: ServedTransfer["direction"], name: string): void {
    const { collections, terms, called } = this.host;
    const takes = terms.onReceive || terms.folder || collections.of(name);
    if (direction === "upload" && !takes) {
      throw new TensorwireError("FORBIDDEN", "this server takes no models");
    }
    const right = direction === "upload" ? "publish" : "fetch";
    if (hasRight(principal, right, name)) return;
    throw new TensorwireError("FORBIDDEN", `this credential gives no right to ${right} ${called(name)}`);
  }
}

/** What is encoded for each receiver anew has no length before. */
function refuseHead({ response }: Exchange): void {
  response.writeHead(405, { allow: "GET", connection: "close" }).end();
}

/** What counts as one peer. */
function keyOf(peer: ServedPeer): string {
  return peer.principal ? `principal ${peer.principal.name}` : `host ${hostOf(peer)}`;
}
