import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Identity {
  readonly cert: string;
  readonly key: string;
}

export interface Authority {
  readonly ca: string;
  readonly server: Identity;
  readonly client: Identity;
}

export const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;
if (!hasOpenssl) console.log("SKIPPED: needs openssl");

/** A new authority, and certificates of it for 127.0.0.1 and localhost, and for a client. */
export function makeAuthority(): Authority {
  const folder = mkdtempSync(join(tmpdir(), "tensorwire-ca-"));
  const at = (name: string): string => join(folder, name);
  const openssl = (...args: string[]): unknown => execFileSync("openssl", args, { stdio: "pipe" });
  const request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const issue = (name: string, extensions: string): Identity => {
    writeFileSync(at(`${name}.ext`), extensions);
    openssl(...request, "-subj", `/CN=${name}`, "-keyout", at(`${name}.key`), "-out", at(`${name}.csr`));
    const authority = ["-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial"];
    const certificate = ["-extfile", at(`${name}.ext`), "-days", "2", "-out", at(`${name}.crt`)];
    openssl("x509", "-req", "-in", at(`${name}.csr`), ...authority, ...certificate);
    return { cert: read(`${name}.crt`), key: read(`${name}.key`) };
  };
  const read = (name: string): string => readFileSync(at(name), "utf8");
  try {
    openssl(
      ...request,
      "-x509",
      "-days",
      "2",
      "-subj",
      "/CN=authority",
      "-keyout",
      at("ca.key"),
      "-out",
      at("ca.crt"),
    );
    return {
      ca: read("ca.crt"),
      server: issue("server", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:model.example"),
      client: issue("client", "extendedKeyUsage=clientAuth"),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
