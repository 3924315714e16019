--> preparing the session
-- Every run with the same scale makes the same rows, as seen from the day of the run.
SET search_path = public;
SET TimeZone = 'UTC';
SET client_min_messages = warning;
SET synchronous_commit = off;
SET maintenance_work_mem = '128MB';
SET work_mem = '64MB';
SELECT setseed(0.1701);

-- How many rows a table gets that has `at_scale_1` of them at scale 1.
CREATE OR REPLACE FUNCTION pg_temp.n(at_scale_1 bigint) RETURNS bigint LANGUAGE sql STABLE
AS $$ SELECT greatest(20, round(at_scale_1 * current_setting('maint_demo.scale')::float8))::bigint $$;

-- One of 1 to `count`; the higher the skew, the more often a low one. A few
-- users do most of the learning, a few courses have most of the learners.
CREATE OR REPLACE FUNCTION pg_temp.pick(count bigint, skew float8) RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT 1 + floor(count * power(random(), skew))::bigint $$;

-- The moment of row `i` of `total` in the last `days` days: later rows are
-- later, and there are more of them, as on a platform that grows.
CREATE OR REPLACE FUNCTION pg_temp.moment(i bigint, total bigint, days float8) RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT now() - make_interval(secs => 86400 * days * (1 - power(i::float8 / total, 0.8))) $$;

-- Prose of so many words, frequent ones often.
CREATE OR REPLACE FUNCTION pg_temp.prose(words bigint) RETURNS text LANGUAGE sql VOLATILE
AS $$
  SELECT string_agg((ARRAY[
    'the', 'of', 'and', 'to', 'in', 'a', 'is', 'that', 'we', 'for', 'this', 'with', 'as', 'function', 'value', 'every',
    'example', 'data', 'number', 'learn', 'question', 'answer', 'time', 'system', 'model', 'first', 'second', 'between',
    'equation', 'language', 'grammar', 'history', 'energy', 'market', 'query', 'table', 'index', 'vector', 'matrix',
    'probability', 'sample', 'variance', 'theorem', 'proof', 'algorithm', 'complexity', 'recursion', 'network', 'protocol',
    'server', 'client', 'transaction', 'isolation', 'molecule', 'reaction', 'enzyme', 'protein', 'evolution', 'climate',
    'ocean', 'revolution', 'empire', 'treaty', 'parliament', 'novel', 'metaphor', 'sonnet', 'harmony', 'rhythm', 'melody',
    'perspective', 'sculpture', 'inflation', 'interest', 'portfolio', 'derivative', 'integral', 'limit', 'series',
    'velocity', 'momentum', 'gravity', 'quantum', 'photon', 'circuit', 'voltage', 'resistor', 'conjugation', 'vocabulary',
    'pronunciation', 'debate', 'argument', 'evidence', 'hypothesis', 'experiment', 'measurement', 'uncertainty'
  ])[1 + floor(97 * power(random(), 1.7))::int], ' ')
  FROM generate_series(1, words)
$$;
