<?php
// Stands in for Nextcloud: files over DAV for who signs in, a status page, and a database with a cache that both have
// to be there. As there, config.php says from its installation on how the database is reached, not the environment.
const CONFIG = '/var/www/html/config/config.php';

function secret(string $name): string {
    return getenv($name) ?: trim((string) file_get_contents((string) getenv($name . '_FILE')));
}

function database(): PDO {
    $CONFIG = [];
    include CONFIG;
    $place = "{$CONFIG['dbtype']}:host={$CONFIG['dbhost']};dbname={$CONFIG['dbname']}";
    return new PDO($place, $CONFIG['dbuser'], $CONFIG['dbpassword']);
}

function cache_answers(): bool {
    $redis = fsockopen((string) getenv('REDIS_HOST'), 6379, $code, $said, 3);
    return $redis && fwrite($redis, "PING\r\n") && str_starts_with((string) fgets($redis), '+PONG');
}

function install(): void {
    $kind = getenv('POSTGRES_HOST') ? 'POSTGRES' : 'MYSQL';
    $config = ['dbtype' => $kind === 'MYSQL' ? 'mysql' : 'pgsql', 'dbhost' => getenv($kind . '_HOST'),
        'dbname' => getenv($kind . '_DATABASE') ?: getenv($kind . '_DB'), 'dbuser' => getenv($kind . '_USER'),
        'dbpassword' => secret($kind . '_PASSWORD')];
    file_put_contents(CONFIG, '<?php $CONFIG = ' . var_export($config, true) . ';');
    chown(CONFIG, 'www-data');
    database()->exec('CREATE TABLE oc_users (uid VARCHAR(64) PRIMARY KEY, password VARCHAR(255))');
    database()->exec('CREATE TABLE oc_filecache (path VARCHAR(250) PRIMARY KEY, size BIGINT)');
    reset_password((string) getenv('NEXTCLOUD_ADMIN_USER'), secret('NEXTCLOUD_ADMIN_PASSWORD'));
}

function reset_password(string $user, string $password): void {
    database()->prepare('DELETE FROM oc_users WHERE uid = ?')->execute([$user]);
    $hash = password_hash($password, PASSWORD_BCRYPT);
    database()->prepare('INSERT INTO oc_users VALUES (?, ?)')->execute([$user, $hash]);
}

function signed_in(): bool {
    $known = database()->prepare('SELECT password FROM oc_users WHERE uid = ?');
    $known->execute([$_SERVER['PHP_AUTH_USER'] ?? '']);
    return password_verify($_SERVER['PHP_AUTH_PW'] ?? '', (string) $known->fetchColumn());
}

function file_of(string $path): void {
    $file = '/var/www/html/data/' . basename($path);
    if ($_SERVER['REQUEST_METHOD'] === 'PUT') {
        $size = file_put_contents($file, fopen('php://input', 'r'));
        database()->prepare('INSERT INTO oc_filecache VALUES (?, ?)')->execute([basename($path), $size]);
        http_response_code(201);
    } elseif (is_file($file)) {
        readfile($file);
    } else {
        http_response_code(404);
    }
}

function answer(string $path): void {
    if ($path === '/status.php') {
        database();
        header('Content-Type: application/json');
        echo json_encode(['installed' => cache_answers(), 'maintenance' => false, 'productname' => 'Nextcloud']);
    } elseif (!str_starts_with($path, '/remote.php/dav/files/')) {
        echo 'Nextcloud at ', getenv('OVERWRITECLIURL'), ' for ', getenv('NEXTCLOUD_TRUSTED_DOMAINS');
    } elseif (signed_in()) {
        file_of($path);
    } else {
        http_response_code(401);
    }
}

if (PHP_SAPI === 'cli') {
    match ($argv[1] ?? '') {
        'maintenance:install' => install(),
        'user:resetpassword' => reset_password((string) end($argv), (string) getenv('OC_PASS')),
    };
    exit;
}
try {
    answer(rawurldecode((string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)));
} catch (Throwable $error) {
    error_log($error->getMessage());
    http_response_code(503);
}
