import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { TensorwireError } from "@tensorwire/core";
import { hostUrl } from "../channel/address.js";
import { type ListenOptions, listeningPlace } from "../channel/listening-place.js";
import { boundTo, type Visitors } from "../channel/server.js";
import { serverTls } from "../channel/tls-options.js";
import { WebSocketUpgrades } from "../channel/websocket-upgrades.js";
import { mount, type Routes, type WebServer } from "./mount.js";

/** Where a server is: at a place of its own, or on a web server that the caller has. */
export interface WebPlaceOptions
  extends Pick<ListenOptions, "url" | "host" | "port" | "tls" | "insecure" | "authorize"> {
  /** Answers here, on paths that begin with `prefix`, and leaves everything else to whoever else answers. */
  readonly server?: WebServer | undefined;
}

/** A request that is answered beside the models: `/metrics`, say. */
export interface Page {
  readonly path: string;
  answer(request: IncomingMessage, response: ServerResponse): void;
}

/** A web server on which channels come in. */
export interface WebPlace {
  /** `ws://host:port`. @throws TensorwireError `INVALID_ARGUMENT` where the caller's server does not listen yet. */
  readonly url: string;
  /** Takes no more channels. */
  stop(): void;
  /** Leaves the place to others. */
  close(): Promise<void>;
}

/** Whom a web server may have beside those that are let in: who waits for an answer, or has had it. */
const SPARE_CONNECTIONS = 1024;

export interface WebPlaceParts {
  /** Where the models are: what begins so is answered here. */
  readonly prefix: string;
  readonly visitors: Visitors;
  readonly pages: readonly Page[];
  readonly maxConnections: number;
}

/** @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`. */
export async function webPlace(options: WebPlaceOptions, parts: WebPlaceParts): Promise<WebPlace> {
  const upgrades = new WebSocketUpgrades(parts.visitors);
  const routes = routesOf(parts, upgrades);
  const stop = (): void => upgrades.close();
  if (options.server) {
    const { server } = options;
    const unmount = mount(server, routes);
    const close = async (): Promise<void> => unmount();
    return {
      stop,
      close,
      get url() {
        return urlOf(server);
      },
    };
  }
  const { tls } = options;
  const place = listeningPlace({
    ...options,
    ...(options.url !== undefined && { url: asWebSocket(options.url) }),
  });
  if (place.scheme !== "ws" && place.scheme !== "wss") {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "a model server listens on a ws:, wss:, http: or https: URL",
    );
  }
  const secure = place.scheme === "wss";
  const server = secure ? createSecureServer(serverTls(tls)) : createServer();
  server.maxConnections = parts.maxConnections + SPARE_CONNECTIONS;
  server.on("request", (request, response) => {
    if (routes.owns(request)) routes.request(request, response);
    else notFound(response);
  });
  server.on("upgrade", (request, socket, head) => routes.upgrade(request, socket, head));
  const url = hostUrl(place.scheme, await boundTo(server, place.address));
  const close = async (): Promise<void> => {
    server.close();
    server.closeIdleConnections();
  };
  return { url, stop, close };
}

function routesOf({ prefix, pages }: WebPlaceParts, upgrades: WebSocketUpgrades): Routes {
  const pageOf = (request: IncomingMessage): Page | undefined =>
    pages.find(({ path }) => path === pathOf(request));
  return {
    owns: (request) => pathOf(request).startsWith(prefix) || pageOf(request) !== undefined,
    request: (request, response) => {
      const page = pageOf(request);
      if (page) page.answer(request, response);
      else notFound(response);
    },
    upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      void upgrades.handle(request, socket, head);
    },
  };
}

function notFound(response: ServerResponse): void {
  response.writeHead(404, { "Content-Type": "text/plain; charset=utf-8" }).end("There is nothing here.\n");
}

const pathOf = ({ url = "" }: IncomingMessage): string => /^[^?#]*/.exec(url)![0];

/** Both are spoken on one port. */
const asWebSocket = (url: string | URL): string => String(url).replace(/^http(s?):/i, "ws$1:");

function urlOf(server: WebServer): string {
  const address = server.address();
  if (typeof address !== "object" || address === null) {
    throw new TensorwireError("INVALID_ARGUMENT", "the server does not listen on a port, and so has no URL");
  }
  const secure = "setSecureContext" in server;
  return hostUrl(secure ? "wss" : "ws", { host: (address as AddressInfo).address, port: address.port });
}
