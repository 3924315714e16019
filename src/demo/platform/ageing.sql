--> ageing: sessions come and go
-- Logouts: two thirds of the rows, evenly spread, so every page of every
-- index keeps a third of its entries. VACUUM frees the entries, not the pages.
DELETE FROM user_sessions WHERE abs(hashtext(token_hash)) % 3 <> 0;

--> ageing: a month of learning
-- Half of the progress is touched: its entries move to the right end of the
-- index on updated_at and leave half-empty pages behind.
UPDATE user_progress SET updated_at = now() - make_interval(secs => 86400 * 20 * random()), seconds_spent = seconds_spent + 60
WHERE (user_id + lesson_id) % 2 = 0;

--> ageing: courses are completed
UPDATE enrollments SET status = 'completed', progress_percent = 100, completed_at = now()
WHERE status = 'active' AND id % 5 < 3;

--> ageing: indicators are thinned out
DELETE FROM behavioral_indicators WHERE id % 8 < 5;

--> ageing: a mail provider changes its name
UPDATE users SET email = replace(email, '@gmail.com', '@mail.example') WHERE email LIKE '%@gmail.com';

--> ageing: an old month of events is thinned out
DELETE FROM analytics_events WHERE "timestamp" >= date_trunc('month', now()) - interval '3 months'
  AND "timestamp" < date_trunc('month', now()) - interval '2 months' AND id % 10 < 6;

--> ageing: the last vacuum anybody ran
VACUUM (ANALYZE) user_sessions, user_progress, enrollments, behavioral_indicators, users;

--> ageing: and that of the events
VACUUM analytics_events;

--> ageing: quizzes are graded again
UPDATE quiz_attempts SET score = least(100, score + 1) WHERE id % 6 = 0;
DELETE FROM quiz_attempts WHERE id % 20 = 1;

--> ageing: devices report late
UPDATE learning_sessions SET metrics = metrics || '{"synced": true}' WHERE id % 4 = 0;
UPDATE users SET last_seen_at = now() - make_interval(secs => 86400 * random()) WHERE id % 7 = 0;

--> ageing: lessons are rewritten
UPDATE lessons SET body = body || ' ' || pg_temp.prose(40), updated_at = now() WHERE id % 3 = 0;
UPDATE lessons SET body = pg_temp.prose(30) || ' ' || body, updated_at = now() WHERE id % 3 = 0;

--> ageing: this month's events arrive
INSERT INTO analytics_events ("timestamp", user_id, event_type, properties)
SELECT date_trunc('month', now()) + (now() - date_trunc('month', now())) * (i::float8 / pg_temp.n(240000)),
  CASE WHEN random() < 0.9 THEN pg_temp.pick(pg_temp.n(160000), 2.5) END,
  (ARRAY['page_view', 'video_play', 'video_pause', 'lesson_open', 'search', 'quiz_start', 'purchase'])[pg_temp.pick(7, 2)],
  jsonb_build_object('path', '/courses/' || pg_temp.pick(pg_temp.n(1600), 2), 'ms', pg_temp.pick(60000, 3), 'ab', pg_temp.pick(2, 1))
FROM generate_series(1, pg_temp.n(240000)) AS i;

--> ageing: new analytics are computed
INSERT INTO learning_analytics (user_id, course_id, period_start, metrics, computed_at)
SELECT user_id, course_id, date_trunc('month', now())::date,
  jsonb_build_object('minutes', pg_temp.pick(900, 3), 'lessons', pg_temp.pick(30, 2), 'percentile', pg_temp.pick(100, 1)), now()
FROM enrollments WHERE status = 'completed' LIMIT pg_temp.n(150000);

--> ageing: the old system's grades are imported
INSERT INTO "Legacy Grades"
SELECT pg_temp.pick(pg_temp.n(160000), 1), initcap(pg_temp.prose(3)), (ARRAY['A', 'B', 'C', 'D', 'F'])[pg_temp.pick(5, 1.4)],
  now() - make_interval(days => 1000 + pg_temp.pick(2000, 1)::int)
FROM generate_series(1, pg_temp.n(80000)) AS i;
CREATE INDEX "Legacy Grades_Student Id_idx" ON "Legacy Grades" ("Student Id");
UPDATE "Legacy Grades" SET "Grade" = 'E' WHERE "Grade" = 'F';
