import type { Connection } from "../session/connection.js";

// One connection a channel, however many transfers: the second call on an open WebSocket finds the first one's.
const connections = new WeakMap<object, Connection>();

/** The connection that was opened on a channel, or on what it is made of. */
export const connectionOn = (endpoint: object): Connection | undefined => connections.get(endpoint);

export function keepConnection(endpoint: object, connection: Connection): void {
  connections.set(endpoint, connection);
}
