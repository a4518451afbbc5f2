import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** A certificate for 127.0.0.1, which is its own authority, and its key. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** Makes one in `folder`; `undefined` where there is no openssl. */
export function makeCertificate(folder: string): Certificate | undefined {
  if (spawnSync("openssl", ["version"]).status !== 0) return undefined;
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=faults", "-addext", "subjectAltName=IP:127.0.0.1"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", ...kind, ...subject, "-keyout", key, "-out", cert], {
    stdio: "pipe",
  });
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
}
