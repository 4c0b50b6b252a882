#!/usr/bin/env node
// In git, unlike what it starts: npm's npx cannot recover from a command whose file was missing at its first try.
import { existsSync } from 'node:fs';

const built = new URL('../dist/cli/conformance.js', import.meta.url);
if (existsSync(built)) await import(built);
else {
  console.error('switchyard-conformance: not built yet; run "npm ci" first');
  process.exitCode = 2;
}
