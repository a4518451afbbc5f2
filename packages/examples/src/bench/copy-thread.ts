// A thread that copies memory beside others: see copy-threads.ts.
import { parentPort, workerData } from "node:worker_threads";
import { type CopyOrder, copyBeside } from "./copy-threads.js";

parentPort!.postMessage(copyBeside(workerData as CopyOrder));
