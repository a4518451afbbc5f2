/** The types of what fragments take for granted: `stage.mjs` makes it. */
export const GRANTED_TYPES = `
import type { Server } from "node:http";
import type { Authorize, DialOptions, Listener, Logger, ModelServer, ModelSource, TensorMap } from "@tensorwire/stream";
declare global {
  function use(...values: unknown[]): void;
  function train(path: string): Promise<Record<string, any>>;
  function pino(): Logger;
  const url: string;
  const destination: string;
  const token: string;
  const dial: Omit<DialOptions, "signal">;
  const tls: { cert: string; key: string };
  const cert: string;
  const key: string;
  const ca: string;
  const authorize: Authorize;
  const round: number;
  const web: Server;
  const server: ModelServer;
  const models: ModelServer;
  const update: string;
  const sums: ModelSource;
  const uploads: ModelSource[];
  const listener: Listener;
}
`;

export const GRANTED = [...GRANTED_TYPES.matchAll(/^ {2}(?:const|function) (\w+)/gm)].map(
  ([, name]) => name!,
);
