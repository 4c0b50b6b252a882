/**
 * Builds `dist/`: JavaScript by esbuild, a few files instead of two hundred, since resolving modules is most of what a short
 * command waits for; declarations by tsc (`npm run build` calls both). Then puts the package's commands into its own
 * `node_modules/.bin`, so that `npx switchyard` in a checkout runs them without asking or downloading anything.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const { outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: ['src/index.ts', 'src/core.ts', 'src/cli/main.ts', 'src/cli/conformance.ts'],
  outdir: 'dist',
  outbase: 'src',
  bundle: true,
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  packages: 'external',
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  sourcemap: true,
  write: false,
  logLevel: 'warning',
});

// Each file changes at once, for commands that run meanwhile; entries come last, when their chunks are there.
const isChunk = ({ path }) => path.includes('/chunks/');
for (const file of [...outputFiles.filter(isChunk), ...outputFiles.filter(each => !isChunk(each))]) {
  mkdirSync(dirname(file.path), { recursive: true });
  writeFileSync(`${file.path}.new`, file.contents);
  renameSync(`${file.path}.new`, file.path);
}

// Chunks of an earlier build have other names.
const chunks = new Set(outputFiles.map(({ path }) => basename(path)));
for (const name of readdirSync(join(root, 'dist/chunks'))) {
  if (!chunks.has(name)) rmSync(join(root, 'dist/chunks', name));
}

// npx of some npm versions looks there first; others link the package itself.
const links = join(root, 'node_modules/.bin');
mkdirSync(links, { recursive: true });
for (const [name, path] of Object.entries(bin)) {
  const target = join(root, path);
  rmSync(join(links, name), { force: true });
  symlinkSync(relative(links, target), join(links, name));
}
