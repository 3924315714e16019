--> loading users
INSERT INTO users (email, full_name, country, locale, preferences, created_at, last_seen_at, deleted_at)
SELECT first || '.' || last || i || '@' || (ARRAY['gmail.com', 'Outlook.com', 'uni.example', 'school.example'])[pg_temp.pick(4, 1.8)],
  first || ' ' || last,
  (ARRAY['DE', 'US', 'IN', 'BR', 'FR', 'GB', 'PL', 'NG', 'JP', 'MX', 'ES', 'IT'])[pg_temp.pick(12, 1.6)],
  (ARRAY['en', 'de', 'fr', 'pt', 'es', 'pl', 'ja'])[pg_temp.pick(7, 1.6)],
  jsonb_build_object('theme', (ARRAY['light', 'dark', 'system'])[pg_temp.pick(3, 1.2)], 'digest', random() < 0.6,
    'daily_goal_minutes', 5 * pg_temp.pick(12, 2), 'captions', random() < 0.3),
  pg_temp.moment(i, pg_temp.n(160000), 900),
  now() - make_interval(secs => 86400 * 300 * power(random(), 3)),
  CASE WHEN random() < 0.03 THEN now() - make_interval(secs => 86400 * 400 * random()) END
FROM (
  SELECT i,
    (ARRAY['Anna', 'Ben', 'Chiara', 'David', 'Elif', 'Femi', 'Grace', 'Hana', 'Ivan', 'Joao', 'Karin', 'Liam', 'Mei', 'Noor', 'Olga', 'Priya'])[pg_temp.pick(16, 1)] AS first,
    (ARRAY['Adler', 'Bello', 'Costa', 'Dubois', 'Evans', 'Fischer', 'Garcia', 'Hansen', 'Ito', 'Jansen', 'Kaya', 'Lewandowska', 'Meyer', 'Nowak', 'Okafor', 'Patel'])[pg_temp.pick(16, 1)] AS last
  FROM generate_series(1, pg_temp.n(160000)) AS i
) AS people;

--> loading courses
INSERT INTO courses (author_id, title, description, tags, level, published_at)
SELECT pg_temp.pick(pg_temp.n(160000), 4), initcap(pg_temp.prose(4)), pg_temp.prose(60 + pg_temp.pick(200, 2)),
  ARRAY[(ARRAY['math', 'science', 'languages', 'history', 'programming', 'music', 'economics'])[pg_temp.pick(7, 1)], 'self-paced'],
  (ARRAY['beginner', 'intermediate', 'advanced'])[pg_temp.pick(3, 1.5)],
  CASE WHEN random() < 0.95 THEN pg_temp.moment(i, pg_temp.n(1600), 800) END
FROM generate_series(1, pg_temp.n(1600)) AS i;

--> loading lessons
-- Ten lessons a course, so that lesson ids follow from course ids below.
INSERT INTO lessons (course_id, position, title, body, minutes, updated_at)
SELECT course, position, initcap(pg_temp.prose(5)), pg_temp.prose(120 + pg_temp.pick(500, 2)), 3 + pg_temp.pick(40, 2),
  pg_temp.moment(course, pg_temp.n(1600), 800)
FROM generate_series(1, pg_temp.n(1600)) AS course, generate_series(1, 10) AS position;

--> loading enrollments
INSERT INTO enrollments (user_id, course_id, status, progress_percent, enrolled_at, completed_at)
SELECT user_id, course_id, CASE WHEN progress = 100 THEN 'completed' WHEN progress < 5 THEN 'dropped' ELSE 'active' END,
  progress, enrolled_at, CASE WHEN progress = 100 THEN least(now(), enrolled_at + interval '30 days') END
FROM (
  SELECT user_id, course_id, min(moment) AS enrolled_at, least(100, floor(130 * power(random(), 1.5)))::int AS progress
  FROM (
    SELECT pg_temp.pick(pg_temp.n(160000), 1.6) AS user_id, pg_temp.pick(pg_temp.n(1600), 2) AS course_id,
      pg_temp.moment(i, pg_temp.n(700000), 700) AS moment
    FROM generate_series(1, pg_temp.n(700000)) AS i
  ) AS wishes
  GROUP BY user_id, course_id
  ORDER BY enrolled_at
) AS enrolled;

--> loading user_progress
INSERT INTO user_progress (user_id, lesson_id, status, score, seconds_spent, updated_at)
SELECT user_id, (course_id - 1) * 10 + position,
  CASE WHEN position * 10 <= progress_percent THEN 'done' ELSE 'started' END,
  CASE WHEN position * 10 <= progress_percent THEN 40 + 60 * random() END,
  60 + pg_temp.pick(3600, 2), least(now(), enrolled_at + position * interval '2 days')
FROM enrollments, generate_series(1, (progress_percent / 20 + 1)) AS position;

--> loading quiz_attempts
INSERT INTO quiz_attempts (user_id, lesson_id, score, answers, started_at, finished_at)
SELECT user_id, lesson_id, score, answers, started_at, started_at + make_interval(secs => 900 * random())
FROM (
  SELECT pg_temp.pick(pg_temp.n(160000), 2) AS user_id, pg_temp.pick(pg_temp.n(1600) * 10, 1.5) AS lesson_id,
    round((100 * power(random(), 0.5))::numeric, 2) AS score,
    jsonb_build_object('chosen', jsonb_build_array(pg_temp.pick(4, 1), pg_temp.pick(4, 1), pg_temp.pick(4, 1)),
      'hints', pg_temp.pick(4, 3) - 1, 'client', 'web') AS answers,
    pg_temp.moment(i, pg_temp.n(700000), 500) AS started_at
  FROM generate_series(1, pg_temp.n(700000)) AS i
) AS attempts;

--> loading user_sessions
INSERT INTO user_sessions (user_id, token_hash, ip, user_agent, created_at, expires_at)
SELECT pg_temp.pick(pg_temp.n(160000), 2.5), md5(i::text) || md5((-i)::text),
  inet '10.0.0.0' + pg_temp.pick(4000000, 1),
  'Mozilla/5.0 (' || (ARRAY['Windows NT 10.0; Win64; x64', 'Macintosh; Intel Mac OS X 10_15_7', 'X11; Linux x86_64', 'iPhone; CPU iPhone OS 17_4 like Mac OS X'])[pg_temp.pick(4, 1.3)]
    || ') AppleWebKit/537.36 (KHTML, like Gecko) Chrome/' || (100 + pg_temp.pick(40, 0.7)) || '.0.0.0 Safari/537.36',
  moment, moment + interval '14 days'
FROM (SELECT i, pg_temp.moment(i, pg_temp.n(500000), 120) AS moment FROM generate_series(1, pg_temp.n(500000)) AS i) AS logins;

--> loading learning_sessions
INSERT INTO learning_sessions (user_id, course_id, device, metrics, started_at, ended_at)
SELECT pg_temp.pick(pg_temp.n(160000), 2.5), pg_temp.pick(pg_temp.n(1600), 2),
  (ARRAY['web', 'ios', 'android', 'tablet'])[pg_temp.pick(4, 1.8)],
  jsonb_build_object('focus', round(random()::numeric, 3), 'lessons', pg_temp.pick(6, 2), 'pauses', pg_temp.pick(9, 3) - 1),
  moment, moment + make_interval(secs => 5400 * power(random(), 2))
FROM (SELECT pg_temp.moment(i, pg_temp.n(1000000), 180) AS moment FROM generate_series(1, pg_temp.n(1000000)) AS i) AS visits;

--> loading adaptive_changes
-- Three in a hundred belong to a session that somebody deleted by hand.
INSERT INTO adaptive_changes (learning_session_id, change_type, from_level, to_level, reason, created_at)
SELECT CASE WHEN random() < 0.03 THEN pg_temp.n(1000000) + pg_temp.pick(100000, 1) ELSE ceil(i * 1000000.0 / 600000)::bigint END,
  (ARRAY['difficulty', 'pace', 'hint', 'review'])[pg_temp.pick(4, 1.5)],
  pg_temp.pick(5, 1), pg_temp.pick(5, 1), 'rule: ' || pg_temp.prose(6), pg_temp.moment(i, pg_temp.n(600000), 180)
FROM generate_series(1, least(pg_temp.n(600000), pg_temp.n(1000000) * 6 / 10)) AS i;

--> loading behavioral_indicators
INSERT INTO behavioral_indicators (user_id, indicator, value, context, recorded_at)
SELECT pg_temp.pick(pg_temp.n(160000), 2.5), (ARRAY['attention', 'frustration', 'streak', 'pace', 'guessing'])[pg_temp.pick(5, 1.5)],
  random(), jsonb_build_object('window_s', 30 * pg_temp.pick(10, 1), 'confidence', round(random()::numeric, 2)),
  pg_temp.moment(i, pg_temp.n(1200000), 120)
FROM generate_series(1, pg_temp.n(1200000)) AS i;

--> loading analytics_events
-- The last tenth, this month's rows, arrives while the platform ages.
INSERT INTO analytics_events ("timestamp", user_id, event_type, properties)
SELECT moment, CASE WHEN random() < 0.9 THEN pg_temp.pick(pg_temp.n(160000), 2.5) END,
  (ARRAY['page_view', 'video_play', 'video_pause', 'lesson_open', 'search', 'quiz_start', 'purchase'])[pg_temp.pick(7, 2)],
  jsonb_build_object('path', '/courses/' || pg_temp.pick(pg_temp.n(1600), 2), 'ms', pg_temp.pick(60000, 3), 'ab', pg_temp.pick(2, 1))
FROM (SELECT pg_temp.moment(i, pg_temp.n(2400000), 265) AS moment FROM generate_series(1, pg_temp.n(2400000)) AS i) AS clicks
WHERE moment < date_trunc('month', now());
-- Devices whose clock was never set, and a few that run ahead.
INSERT INTO analytics_events ("timestamp", user_id, event_type)
SELECT CASE WHEN i % 5 = 0 THEN date_trunc('month', now()) + interval '1 month 2 days' ELSE timestamptz '1970-01-01' END + i * interval '1 second',
  pg_temp.pick(pg_temp.n(160000), 2.5), 'page_view'
FROM generate_series(1, pg_temp.n(2000)) AS i;

--> loading learning_analytics
INSERT INTO learning_analytics (user_id, course_id, period_start, metrics, computed_at)
SELECT user_id, course_id, month::date,
  jsonb_build_object('minutes', pg_temp.pick(900, 3), 'lessons', pg_temp.pick(30, 2), 'mean_score', round((100 * power(random(), 0.5))::numeric, 1),
    'percentile', pg_temp.pick(100, 1), 'streak_days', pg_temp.pick(31, 3)),
  month + interval '1 month 3 hours'
FROM (
  SELECT date_trunc('month', now()) - make_interval(months => back) AS month FROM generate_series(10, 1, -1) AS back
) AS months, (
  SELECT user_id, course_id FROM enrollments WHERE status = 'active' LIMIT pg_temp.n(60000)
) AS active;
