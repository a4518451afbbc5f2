import { constants } from "node:fs";
import { type FileHandle, open, realpath } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import { sameSecret, tokenOfHeader } from "../door/credential.js";
import { nameInPath } from "../server/model-path.js";
import { isErrno } from "../sink/target-error.js";
import { fileFault } from "../source/file-fault.js";
import type { AgentTransfer } from "./agent-transfer.js";
import { answerError, answerJson } from "./json-answer.js";
import { readJson } from "./request-body.js";
import { errorOf, transferJson } from "./transfer-record.js";

/** The version of the interface: it stands in its paths. */
export const API_VERSION = 1;

/** How long a program may wait for an answer; it asks again then. */
export const MAX_WAIT_SECONDS = 60;

/** What an agent does for programs of its machine. */
export interface LocalDeeds {
  status(): Promise<object>;
  publish(body: unknown): Promise<AgentTransfer>;
  /** @param query What else than the name is said of it. */
  publishBody(name: string, query: URLSearchParams, request: IncomingMessage): Promise<AgentTransfer>;
  fetch(body: unknown): Promise<AgentTransfer>;
  send(body: unknown): Promise<AgentTransfer>;
  transfer(id: string): AgentTransfer;
  remove(id: string): Promise<object>;
  free(name: string, transfer: string | undefined): Promise<number>;
}

/** HTTP with JSON, for programs of this machine: docs/agent.md. */
export class LocalApi {
  constructor(
    private readonly deeds: LocalDeeds,
    /** None is asked for where there is none. */
    private readonly token: string | undefined,
  ) {}

  /** Never rejects. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.on("error", () => {});
    try {
      await this.#answer(request, response);
    } catch (error) {
      // What is left of a body that nobody reads would be taken for the next request.
      if (!request.complete && !response.headersSent) response.setHeader("connection", "close");
      if (response.headersSent) response.destroy();
      else answerError(response, error);
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { headers, url = "" } = request;
    if (this.token !== undefined && !sameSecret(tokenOfHeader(headers.authorization), this.token)) {
      const shown = headers.authorization === undefined ? "none was shown" : "this is another";
      throw new TensorwireError(
        "UNAUTHORIZED",
        `this agent asks for its token (--local-token-file), and ${shown}`,
      );
    }
    const [path = "", search = ""] = url.split("?", 2);
    const [, version = "", ...parts] = path.split("/");
    if (/^v\d+$/.test(version) && version !== `v${API_VERSION}`) {
      const message = `this agent speaks version ${API_VERSION} of its interface, not ${version.slice(1)}: update the older side`;
      throw new TensorwireError("VERSION_UNSUPPORTED", message);
    }
    const query = new URLSearchParams(search);
    const [room = "", ...rest] = version === "v1" ? parts : [];
    const what = `${request.method} ${room}${rest.length ? "/" : ""}${room === "models" ? "" : rest.slice(1).join("/")}`;
    const { deeds } = this;
    switch (what) {
      case "GET status":
        return answerJson(response, 200, await deeds.status());
      case "POST models":
        return accepted(response, await deeds.publish(await readJson(request)));
      case "PUT models/":
        return accepted(response, await deeds.publishBody(nameIn(rest), query, request));
      case "DELETE models/": {
        checkQuery(query, "transfer");
        const transfer = query.get("transfer") ?? undefined;
        return answerJson(response, 200, { freed: await deeds.free(nameIn(rest), transfer) });
      }
      case "POST fetches":
        return accepted(response, await deeds.fetch(await readJson(request)));
      case "GET fetches/body":
        return sendFile(deeds.transfer(rest[0]!), request, response);
      case "POST sends":
        return accepted(response, await deeds.send(await readJson(request)));
      case "GET transfers/": {
        checkQuery(query, "wait");
        const transfer = deeds.transfer(rest[0]!);
        await transfer.wait(secondsOf(query) * 1000);
        return answerJson(response, 200, transferJson(transfer.record));
      }
      case "DELETE transfers/":
        return answerJson(response, 200, await deeds.remove(rest[0]!));
    }
    const message = `there is no ${quote(`${request.method} ${path}`)} in this interface: see docs/agent.md`;
    throw new TensorwireError("NOT_FOUND", message);
  }
}

function accepted(response: ServerResponse, { record }: AgentTransfer): void {
  answerJson(response, 202, transferJson(record));
}

/** @throws TensorwireError `NOT_FOUND`: no model can have such a name. */
const nameIn = (segments: readonly string[]): string => nameInPath(`/${segments.join("/")}`, "/");

/** One that is written wrong would be taken for one that is not there: all models of a name, and not the one. */
function checkQuery(query: URLSearchParams, known: string): void {
  const others = [...query.keys()].filter((key) => key !== known);
  if (others.length === 0 && query.getAll(known).length < 2) return;
  const what = others.length === 0 ? `${known} twice` : quote(others[0]!);
  throw new TensorwireError("INVALID_ARGUMENT", `this request takes ?${known}=…, and not ${what}`);
}

function secondsOf(query: URLSearchParams): number {
  const seconds = Number(query.get("wait") ?? 0);
  if (seconds >= 0) return Math.min(seconds, MAX_WAIT_SECONDS);
  throw new TensorwireError("INVALID_ARGUMENT", "wait is a number of seconds");
}

/** The file that was fetched, when it is there. */
async function sendFile(
  transfer: AgentTransfer,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const gone = new Promise<void>((resolve) => response.once("close", resolve));
  await Promise.race([transfer.over, gone]);
  if (response.destroyed) return;
  const { error, path, kind, id } = transfer.record;
  if (error) throw errorOf(error);
  if (kind !== "fetch" || path === undefined) {
    throw new TensorwireError("NOT_FOUND", `transfer ${quote(id)} has fetched no file`);
  }
  // Open before it is promised: it may be freed meanwhile.
  const file = await openFetched(path);
  const { size } = await file.stat();
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": size });
  const bytes = file.createReadStream({ highWaterMark: 1024 * 1024, end: Math.max(0, size - 1) });
  // Whoever went away in the middle has nothing to be told.
  await pipeline(bytes, response).catch(() => {});
  request.resume();
}

/** A program that named the place may have put a link there since. */
async function openFetched(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause) => {
      if (isErrno(cause, "ELOOP")) throw linked(path);
      throw fileFault(cause, path, "opened");
    },
  );
  const real = await realpath(path).catch(() => undefined);
  if ((real === undefined || real === path) && (await file.stat()).isFile()) return file;
  await file.close();
  throw linked(path);
}

const linked = (path: string): TensorwireError =>
  new TensorwireError("FORBIDDEN", `${quote(path)} is no plain file any more`);
