#!/usr/bin/env node
// In git, unlike what it starts: npx links commands before anything is built, and does not recover if they are missing.
import { existsSync } from 'node:fs';

const built = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(built)) await import(built);
else {
  console.error('switchyard: not built yet; run "npm ci" first');
  process.exitCode = 2;
}
