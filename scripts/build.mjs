/**
 * Builds `dist/`: JavaScript by esbuild, a few files instead of two hundred, since resolving modules is most of what a short
 * command waits for; declarations by tsc (`npm run build` calls both). Then puts the package's commands into its own
 * `node_modules/.bin`, so that `npx switchyard` in a checkout runs them without asking or downloading anything.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const { metafile } = await build({
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
  metafile: true,
  logLevel: 'warning',
});

// Chunks of an earlier build have other names.
const chunks = new Set(Object.keys(metafile.outputs).map(path => basename(path)));
for (const name of readdirSync(join(root, 'dist/chunks'))) {
  if (!chunks.has(name)) rmSync(join(root, 'dist/chunks', name));
}

const links = join(root, 'node_modules/.bin');
mkdirSync(links, { recursive: true });
for (const [name, path] of Object.entries(bin)) {
  const target = join(root, path);
  chmodSync(target, 0o755);
  rmSync(join(links, name), { force: true });
  symlinkSync(relative(links, target), join(links, name));
}
