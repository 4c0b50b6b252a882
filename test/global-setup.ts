/** Tests of the commands run what `npm run build` makes; it is made anew where a source is newer. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');

export default function build(): void {
  const built = join(root, 'dist/cli/main.js');
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).map(name =>
    join(root, 'src', name),
  );
  const newest = Math.max(...[...sources, join(root, 'scripts/build.mjs')].map(path => statSync(path).mtimeMs));
  if (existsSync(built) && statSync(built).mtimeMs >= newest) return;
  execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'inherit' });
}
