import { x64Platform } from './computer.ts';
import { conformanceSuite } from './suites/conformance.ts';

conformanceSuite(x64Platform);
