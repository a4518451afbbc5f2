/** An absolute path, as our messages quote it, and as the system's do. */
const QUOTED_PATH = /(["'])(?:\/|[A-Za-z]:\\|\\\\)(?:(?!\1)[^\\]|\\.)*?((?:(?!\1)[^/\\])*)\1/g;

/** What a server tells its peers of its own failures: the names of files, and not where on its disk they are. */
export function discreet(message: string): string {
  return message.replace(QUOTED_PATH, "$1$2$1");
}
